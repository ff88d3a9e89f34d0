"""The way of a sentence, from text to annotation."""
