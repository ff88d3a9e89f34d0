"""The seed's way: one sentence a call, all outputs, a full pass more for each verb, ONNX Runtime as it comes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from benchmarks.server.models import Model
from benchmarks.server.rows import Ints, Sentence


class QuickStart:
    """What the published model card tells its readers to write.

    In its favour, sentences are cut and words split beforehand, and of the answers only the parts of speech are
    read, as they tell which words to pass again.

    Args:
        model: what to run.
    """

    def __init__(self, model: Model) -> None:
        self._encoder = model.encoder()
        self._verb = model.labels().pos.index("VERB")
        self._session = ort.InferenceSession(str(model.graph), providers=["CPUExecutionProvider"])

    def seconds(self, sentences: Sequence[Sentence]) -> float:
        """Seconds that all sentences take, one after the other."""
        begun = time.monotonic()
        for sentence in sentences:
            if sentence.tagged:
                self._annotate(sentence)
            else:
                self._run(self._encoder.pair(sentence.previous, sentence.text), 0)
        return time.monotonic() - begun

    def _annotate(self, sentence: Sentence) -> None:
        for window in self._encoder.windows(sentence.words):
            pos = self._run(window.ids, 0)[0]
            for index in window.first[pos[0, window.first].argmax(-1) == self._verb]:
                self._run(window.ids, int(index))

    def _run(self, ids: Ints, predicate: int) -> list[np.ndarray]:
        given = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        answers: list[np.ndarray] = self._session.run(None, given | {"predicate_idx": np.array([predicate])})
        return answers
