"""One ONNX Runtime session of one variant on one device: opened, checked against its labels, run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kniv.server.errors import RepositoryError
from kniv.server.graphs.contract import DEPENDENT, HEAD, LABELS, LONGEST, RELATIONS, SCORES, TASKS, TASKS_INPUT, WEIGHT
from kniv.server.repository.labels import Labels
from kniv.server.runtime.prepare import prepared
from kniv.server.runtime.providers import (
    CPU,
    DEFAULTS,
    Device,
    DeviceError,
    SessionSettings,
    first_line,
    open_session,
)

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

INPUTS = ("input_ids", "attention_mask", "predicate_idx")
_TASK_OF = {
    "pos_logits": "pos",
    "ner_logits": "ner",
    "arc_scores": "dep",
    "label_scores": "dep",
    "srl_logits": "srl",
    "cls_logits": "cls",
}
OUTPUTS = tuple(_TASK_OF)
"""What every cascade gives."""


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """An input or output of a graph.

    Attributes:
        type: element type as ONNX Runtime writes it, for example ``int64`` or ``float``.
        shape: sizes; -1 where any size goes.
    """

    type: str
    shape: tuple[int, ...]


class Session:
    """A cascade graph, ready to run; ``run`` may be called from several threads at once.

    Args:
        path: the graph; what runs is it after the passes that fit it.
        device: where to run.
        settings: how to run.
        digest: the graph's SHA-256, if that is known.

    Attributes:
        inputs, outputs: the graph's as published.
        relation_weight: what scores relations [C, d + 1, d + 1], where the graph gives them at the best heads alone:
            see :mod:`kniv.server.graphs.relations`; None where it does not.

    Raises:
        RepositoryError: the graph cannot be loaded, has other inputs or outputs than a cascade, or the device
            is not there.
    """

    def __init__(
        self, path: Path, device: Device = CPU, settings: SessionSettings = DEFAULTS, digest: str = ""
    ) -> None:
        self.path, self.device, self._settings = path, device, settings
        graph = prepared(path, digest)
        try:
            self._use(graph)
        except DeviceError:
            raise
        except RepositoryError as error:
            if graph == path:
                raise
            self._use_source(error)

    def _use(self, graph: Path | bytes) -> None:
        """Open the graph that is to be run."""
        path = self.path
        self._session = open_session(path, graph, self.device, self._settings)
        self._rewritten = graph != path
        self.inputs = {node.name: _signature(node.type, node.shape) for node in self._session.get_inputs()}
        known = {node.name: _signature(node.type, node.shape) for node in self._session.get_outputs()}
        self.outputs = {name: tensor for name, tensor in known.items() if name not in (*RELATIONS, WEIGHT)}
        self._takes_tasks = any(node.name == TASKS_INPUT for node in self._session.get_overridable_initializers())
        got = {name: tensor.type for name, tensor in self.inputs.items()}
        if got != dict.fromkeys(INPUTS, "int64"):
            raise RepositoryError(path, f"inputs are {got}, a cascade has int64 {', '.join(INPUTS)}")
        if missing := [name for name in OUTPUTS if name not in self.outputs]:
            raise RepositoryError(path, f"lacks the outputs {', '.join(missing)}")
        self.relation_weight: Floats | None = None
        if self._takes_tasks and {*RELATIONS, WEIGHT} <= known.keys():
            one = np.ones((1, 1), dtype=np.int64)
            # A copy, as outputs lie in the memory of runs.
            self.relation_weight = self.run(0 * one, one, np.array([0]), (WEIGHT,))[WEIGHT].copy()

    def _use_source(self, error: RepositoryError) -> None:
        """What the graph was rewritten to will not do."""
        log.warning("%s runs as it is, not as it was rewritten: %s", self.path, error.problem)
        self._use(self.path)

    def switch(self) -> ort.RunOptions:
        """What stops one run from another thread: ``terminate``, looked at between any two nodes of the graph."""
        options = ort.RunOptions()
        options.log_severity_level = 4  # a run that is stopped says so by its exception
        return options

    def run(
        self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: ort.RunOptions | None = None
    ) -> dict[str, Floats]:
        """Run one batch; heads that no output needs are not run.

        Args:
            ids: subword ids [B, S].
            mask: 1 at subwords, 0 at padding [B, S].
            predicates: subword index of each row's predicate, 0 for none [B].
            outputs: names of the outputs wanted.
            switch: see :meth:`switch`.

        Returns:
            The outputs by name.
        """
        feed: dict[str, NDArray[np.generic]] = dict(zip(INPUTS, (ids, mask, predicates), strict=True))
        if self._takes_tasks:
            feed[TASKS_INPUT] = _flags(outputs)
        return dict(zip(outputs, self._session.run(list(outputs), feed, switch), strict=True))

    def check(self, labels: Labels, vocabulary: int, longest: int) -> None:
        """Compare what trial runs give with the labels; a long one also warms the session.

        A graph that fails once it was rewritten, or whose rows are longer than the passes are proven for, is run as
        it is, if that does not fail.

        Args:
            labels: what the outputs must have as last dimensions.
            vocabulary: subword ids that the tokenizer can give.
            longest: most subwords that a row will have.

        Raises:
            RepositoryError: a run fails, an output has another shape, or values that are not finite.
        """
        if self._rewritten and longest > LONGEST:
            problem = f"rows have up to {longest} subwords, and passes are proven up to {LONGEST}"
            self._use_source(RepositoryError(self.path, problem))
        try:
            self._try(labels, vocabulary, longest)
        except RepositoryError as error:
            if not self._rewritten:
                raise
            self._use_source(error)
            self._try(labels, vocabulary, longest)

    def _try(self, labels: Labels, vocabulary: int, longest: int) -> None:
        ids = np.array([[0, 1, 2, 3, vocabulary - 1], [0, 1, 2, 0, 0]])
        mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        long = np.zeros((1, longest), dtype=np.int64)
        everything = (*OUTPUTS, *self._relations())
        try:
            outputs = self.run(ids, mask, np.array([1, 0]), everything)
            for name in OUTPUTS:  # heads can be run without the others
                self.run(ids, mask, np.array([1, 0]), (name,))
            self.run(long, np.ones_like(long), np.array([0]), everything)
        except Exception as error:
            raise RepositoryError(self.path, f"fails on a trial run: {first_line(error)}") from error
        b, s = ids.shape
        expected = {
            "pos_logits": (b, s, len(labels.pos)),
            "ner_logits": (b, s, len(labels.ner)),
            "arc_scores": (b, s, s),
            "label_scores": (b, s, s, len(labels.deprel)),
            "srl_logits": (b, s, len(labels.srl)),
            "cls_logits": (b, len(labels.cls)),
        }
        if self.relation_weight is not None:
            width = self.relation_weight.shape[-1]
            expected |= {SCORES: (b, s, len(labels.deprel)), DEPENDENT: (b, s, width), HEAD: (b, s, width)}
        for name, shape in expected.items():
            if outputs[name].shape != shape:
                problem = f"output {name} has shape {outputs[name].shape} where labels.json asks for {shape}"
                raise RepositoryError(self.path, problem)
            if not np.isfinite(outputs[name][0]).all():
                raise RepositoryError(self.path, f"output {name} has values that are not finite on a trial run")

    @property
    def answers(self) -> tuple[str, ...]:
        """What sentences are read from: without ``label_scores`` where relations are given at the best heads."""
        if self.relation_weight is None:
            return OUTPUTS
        return (*(name for name in OUTPUTS if name != "label_scores"), *RELATIONS)

    def _relations(self) -> tuple[str, ...]:
        return RELATIONS if self.relation_weight is not None else ()


@lru_cache
def _flags(outputs: tuple[str, ...]) -> NDArray[np.bool_]:
    """What of :data:`TASKS` gives these outputs [6]."""
    asked = {_TASK_OF.get(name, "dep") for name in outputs if name != WEIGHT}
    if "label_scores" in outputs:
        asked.add(LABELS)
    return np.array([task in asked for task in TASKS])


def _signature(kind: str, shape: list[int | str | None]) -> TensorSignature:
    """From ONNX Runtime's ``tensor(int64)`` and shape with names where any size goes."""
    sizes = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in shape)
    return TensorSignature(kind.removeprefix("tensor(").removesuffix(")"), sizes)
