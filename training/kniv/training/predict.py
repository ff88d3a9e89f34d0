"""Running a cascade over rows, in PyTorch or in ONNX Runtime, with the same answers however rows are batched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from kniv.server.graphs.contract import LABELS, TASKS, TASKS_INPUT
from kniv.training.cascade import Cascade
from kniv.training.export import INPUTS
from kniv.training.rows import Ints, Row

Answers = dict[str, NDArray[np.float32]]
TOKENS_A_BATCH = 768
# What the input ``tasks`` of a rewritten graph must hold for an output.
TASKS_OF = {
    "pos_logits": ("pos",),
    "ner_logits": ("ner",),
    "arc_scores": ("dep",),
    "label_scores": ("dep", LABELS),
    "srl_logits": ("srl",),
    "cls_logits": ("cls",),
}


class Predictor(Protocol):
    """A cascade that answers batches of rows of one length."""

    @property
    def rows_at_once(self) -> int | None:
        """Most rows of one batch; None: as many as one likes."""
        ...

    def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
        """The outputs named, for unpadded subword ids [B, S] and marked subwords [B]."""
        ...


class TorchPredictor:
    """Answers with a PyTorch cascade, in FP32 and evaluation mode."""

    rows_at_once: int | None = None

    def __init__(self, model: Cascade) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device

    def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
        """See :class:`Predictor`."""
        given = (torch.from_numpy(values).to(self._device) for values in (ids, np.ones_like(ids), predicates))
        with torch.inference_mode():
            answers = self._model(*given)
        return {name: getattr(answers, name).cpu().numpy() for name in outputs}


class GraphPredictor:
    """Answers with an ONNX graph on ONNX Runtime's CPU provider.

    A graph that scales activations over the whole batch is given one row at a time: anything else would
    make an answer depend on its batch-mates. A graph that the passes of ``kniv.server.graphs`` have rewritten runs no
    more heads than are asked for.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        graph = onnx.load(path).graph
        kinds = {node.op_type for node in graph.node}
        self.rows_at_once: int | None = 1 if "DynamicQuantizeLinear" in kinds else None
        self._rewritten = TASKS_INPUT in {value.name for value in graph.input}
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
        """See :class:`Predictor`."""
        feed = dict(zip(INPUTS, (ids, np.ones_like(ids), predicates), strict=True))
        if not self._rewritten:
            return dict(zip(outputs, self._session.run(list(outputs), feed), strict=True))
        wanted = {task for name in outputs for task in TASKS_OF[name]}
        feed[TASKS_INPUT] = np.array([task in wanted for task in TASKS])
        return dict(zip(outputs, self._session.run(list(outputs), feed), strict=True))


def answers(
    predictor: Predictor,
    rows: Sequence[Row],
    outputs: Sequence[str],
    advance: Callable[[int], None] = lambda rows: None,
) -> Iterator[tuple[int, Answers]]:
    """Each row's place in ``rows`` with its own outputs (no batch axis), in no particular order.

    Only rows of equal length share a batch, so that no answer is computed beside padding.

    Args:
        advance: called with the number of rows done after every batch.
    """
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    for length, group in groupby(order, key=lambda place: len(rows[place].ids)):
        places = list(group)
        size = predictor.rows_at_once or max(1, TOKENS_A_BATCH // length)
        for start in range(0, len(places), size):
            batch = places[start : start + size]
            ids = np.stack([rows[place].ids for place in batch])
            found = predictor(ids, np.array([rows[place].predicate for place in batch]), outputs)
            for index, place in enumerate(batch):
                yield place, {name: values[index] for name, values in found.items()}
            advance(len(batch))
