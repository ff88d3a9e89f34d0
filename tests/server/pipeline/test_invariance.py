"""A row's answer is that of the unpadded row alone, whatever shares its batch; held to a plain session on real text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.segment import sentences
from kniv.server.pipeline.words import words
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.session import OUTPUTS, Session
from kniv.server.scheduling.execute import execute
from kniv.server.scheduling.row import Floats, Row

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def copied(outputs: dict[str, Floats]) -> dict[str, Floats]:
    return {name: values.copy() for name, values in outputs.items()}


def rows_of(version: Path) -> list[Row[dict[str, Floats]]]:
    """Each sentence of the example document, once without a predicate and once with one of its words marked."""
    encoder = Encoder(version / "tokenizer.json", Metadata.load(version / "metadata.json"))
    rows = []
    for sentence in sentences((EXAMPLES / "document.txt").read_text(encoding="utf-8")):
        (window,) = encoder.windows([sentence.text[w.start : w.end] for w in words(sentence.text)])
        marked = int(window.first[len(window.first) // 2])
        rows += [Row(window.ids, predicate, OUTPUTS, copied) for predicate in (0, marked)]
    return rows


def answers(session: Session, rows: list[Row[dict[str, Floats]]]) -> list[dict[str, Floats]]:
    """What the rows get when they share a batch, padded to a bucket beyond the longest."""
    return execute(session, rows, max(len(row.ids) for row in rows) + 3, session.switch()).answers


def alone(path: Path, row: Row[dict[str, Floats]]) -> dict[str, Floats]:
    """The row's outputs from a session of ONNX Runtime's own defaults, unpadded."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": row.ids[None], "attention_mask": np.ones((1, len(row.ids)), dtype=np.int64)}
    outputs = session.run(list(OUTPUTS), feed | {"predicate_idx": np.array([row.predicate])})
    return {name: values[0] for name, values in zip(OUTPUTS, outputs, strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_fp32_logits_are_those_of_the_sentence_alone(tiny: Path, seed: int) -> None:
    session = Session(tiny / "cascade.onnx")
    rows = rows_of(tiny)
    np.random.default_rng(seed).shuffle(rows)  # type: ignore[arg-type]
    for start in range(0, len(rows), 5):
        batch = rows[start : start + 5]
        for row, answer in zip(batch, answers(session, batch), strict=True):
            for name, values in alone(tiny / "cascade.onnx", row).items():
                np.testing.assert_allclose(answer[name], values, atol=1e-4, err_msg=name)


def test_int8_labels_are_those_of_the_sentence_alone(mini: Path) -> None:
    path = mini / "cascade-int8.onnx"
    session = Session(path)
    rows = rows_of(mini)
    same = total = 0
    for row, answer in zip(rows, answers(session, rows), strict=True):
        expected = alone(path, row)
        for name in ("pos_logits", "ner_logits", "arc_scores", "srl_logits"):
            same += int((answer[name].argmax(-1) == expected[name].argmax(-1)).sum())
            total += len(row.ids)
        assert answer["cls_logits"].argmax() == expected["cls_logits"].argmax()
    assert same >= 0.999 * total
