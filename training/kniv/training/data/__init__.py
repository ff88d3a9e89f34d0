"""Readers of the public corpora, one file a kind of annotation."""
