"""Sentences as text for other programs."""

from __future__ import annotations

import dataclasses
import json

from kniv.client._annotation import Frame, Sentence, Token


def to_json(sentence: Sentence) -> str:
    """One line of JSON with the fields of ``Sentence``; times are in seconds."""
    return json.dumps(dataclasses.asdict(sentence), ensure_ascii=False)


def to_conllu(sentence: Sentence, sent_id: str | None = None) -> str:
    """A sentence as CoNLL-U: comments, a row of ten columns for each token, and an empty line.

    ``sent_id`` is the sentence's place in its text, from 1, if None. Entities are in MISC as ``Entity=B-PERSON``;
    frames and the dialog act are comments. A frame names its predicate by ID and the arguments by ID ranges.
    """
    adjacent = [left.end == right.start for left, right in zip(sentence.tokens, sentence.tokens[1:], strict=False)]
    adjacent.append(False)
    text = "".join(
        _field(token.text) + ("" if joined else " ") for token, joined in zip(sentence.tokens, adjacent, strict=False)
    )
    lines = [f"# sent_id = {_field(sent_id or str(sentence.index + 1))}", f"# text = {text.rstrip()}"]
    if sentence.dialog_act is not None:
        lines.append(f"# dialog_act = {_field(sentence.dialog_act.label)}")
    lines += [f"# frame = {_frame(frame)}" for frame in sentence.frames]
    entities = _entity_tags(sentence)
    for index, (token, joined) in enumerate(zip(sentence.tokens, adjacent, strict=False)):
        misc = [f"Entity={entities[index]}"] if index in entities else []
        misc += ["SpaceAfter=No"] if joined else []
        lines.append("\t".join(_columns(index, token, "|".join(misc))))
    return "\n".join(lines) + "\n\n"


def _columns(index: int, token: Token, misc: str) -> list[str]:
    head = "_" if token.head is None else str(0 if token.head == index else token.head + 1)
    relation = _field(token.relation or "")
    return [
        str(index + 1),
        _field(token.text),
        "_",
        _field(token.upos or ""),
        "_",
        "_",
        head,
        relation,
        "_",
        misc or "_",
    ]


def _entity_tags(sentence: Sentence) -> dict[int, str]:
    return {
        index: f"{'B' if index == entity.first_token else 'I'}-{_field(entity.type).replace('|', '/')}"
        for entity in sentence.entities
        for index in range(entity.first_token, entity.end_token)
    }


def _frame(frame: Frame) -> str:
    arguments = (
        f"{_field(argument.role)}={argument.first_token + 1}-{argument.end_token}" for argument in frame.arguments
    )
    return " ".join([str(frame.predicate + 1), *arguments])


def _field(value: str) -> str:
    """A value that fits into a column: no tabs or line ends, not empty."""
    return " ".join(value.split()) or "_"
