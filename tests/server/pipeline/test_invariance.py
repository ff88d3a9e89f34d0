"""A row's answer is that of the unpadded row alone, whatever shares its batch; held to a plain session on real text."""

from __future__ import annotations

import gzip
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.segment import sentences
from kniv.server.pipeline.words import words
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.session import OUTPUTS, Session
from kniv.server.scheduling.execute import execute, read
from kniv.server.scheduling.row import Floats, Row

ROOT = Path(__file__).resolve().parents[3]
CORPUS = Path(os.environ.get("KNIV_DATA", ROOT / "../shared/data")) / "documents.jsonl.gz"
MANY = 400

Given = tuple[tuple[int, ...], int]  # subwords of a row and its predicate
Answer = dict[str, Floats]


def copied(outputs: Answer) -> Answer:
    return {name: values.copy() for name, values in outputs.items()}


def example() -> str:
    return (ROOT / "examples" / "document.txt").read_text(encoding="utf-8")


def corpus() -> str:
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS.name} is not there")
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines:
        return "\n\n".join(json.loads(line)["text"] for _, line in zip(range(40), lines, strict=False))


def rows_of(version: Path, text: str) -> list[Given]:
    """Each sentence, once without a predicate and once with one of its words marked."""
    encoder = Encoder(version / "tokenizer.json", Metadata.load(version / "metadata.json"))
    rows = []
    for sentence in sentences(text)[:MANY]:
        for window in encoder.windows([sentence.text[w.start : w.end] for w in words(sentence.text)])[:1]:
            marked = int(window.first[len(window.first) // 2])
            rows += [(tuple(int(one) for one in window.ids), predicate) for predicate in (0, marked)]
    return rows


def together(session: Session, batch: list[Given], padding: int, outputs: tuple[str, ...] = OUTPUTS) -> list[Answer]:
    """What rows get that share a batch, padded beyond the longest of them."""
    rows = [Row(np.array(ids), predicate, outputs, copied) for ids, predicate in batch]
    done = execute(session, rows, max(len(row.ids) for row in rows) + padding, session.switch())
    assert not done.failures
    return list(read(done, rows, range(len(rows))).values())


class Alone:
    """Rows in a session of ONNX Runtime's own defaults on the file as it is, one at a time and unpadded."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.answer = lru_cache(None)(self._answer)

    def _answer(self, row: Given) -> Answer:
        ids, predicate = np.array([row[0]]), np.array([row[1]])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "predicate_idx": predicate}
        values = self._session.run(list(OUTPUTS), feed)
        return {name: value[0] for name, value in zip(OUTPUTS, values, strict=True)}


def test_fp32_logits_are_those_of_the_sentence_alone(tiny: Path) -> None:
    session, plain = Session(tiny / "cascade.onnx"), Alone(tiny / "cascade.onnx")
    rows = rows_of(tiny, example())
    outputs = st.sets(st.sampled_from(OUTPUTS), min_size=1).map(lambda chosen: tuple(sorted(chosen)))

    @given(st.lists(st.sampled_from(rows), min_size=1, max_size=8), st.integers(0, 12), outputs)
    @settings(deadline=None)
    def in_any_batch(batch: list[Given], padding: int, wanted: tuple[str, ...]) -> None:
        for row, answer in zip(batch, together(session, batch, padding, wanted), strict=True):
            for name in wanted:
                np.testing.assert_allclose(answer[name], plain.answer(row)[name], atol=1e-4, err_msg=name)

    in_any_batch()


@pytest.mark.parametrize("text", [example, corpus])
def test_int8_labels_are_those_of_the_sentence_alone(mini: Path, text: object) -> None:
    assert callable(text)
    session, plain = Session(mini / "cascade-int8.onnx"), Alone(mini / "cascade-int8.onnx")
    rows, random = rows_of(mini, text()), np.random.default_rng(5)
    random.shuffle(rows)  # type: ignore[arg-type]
    same = total = 0
    for start in range(0, len(rows), 6):
        batch = rows[start : start + 6]
        for row, answer in zip(batch, together(session, batch, int(random.integers(0, 9))), strict=True):
            expected = plain.answer(row)
            for name in ("pos_logits", "ner_logits", "arc_scores", "srl_logits"):
                same += int((answer[name].argmax(-1) == expected[name].argmax(-1)).sum())
                total += len(row[0])
            same += answer["cls_logits"].argmax() == expected["cls_logits"].argmax()
            total += 1
    print(f"{same} of {total} labels")
    assert same >= 0.999 * total
