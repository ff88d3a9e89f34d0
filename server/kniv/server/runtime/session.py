"""One ONNX Runtime session of one variant: opened, checked against its labels, warmed, run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels

Device = Literal["cpu", "cuda"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_PROVIDERS: dict[Device, list[str]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
INPUTS = ("input_ids", "attention_mask", "predicate_idx")
OUTPUTS = ("pos_logits", "ner_logits", "arc_scores", "label_scores", "srl_logits", "cls_logits")


class Session:
    """A cascade graph, ready to run; ``run`` may be called from several threads at once.

    Args:
        path: the graph.
        labels: what its outputs must have as last dimensions.
        device: where to run.
        threads: threads inside one run. One is best on CPU when runs go side by side.
        longest: most subwords that a row will have.

    Raises:
        RepositoryError: the graph cannot be loaded, has other inputs or outputs than a cascade, does
            not fit the labels, or the device is not there.
    """

    def __init__(
        self, path: Path, labels: Labels, device: Device = "cpu", threads: int = 1, longest: int = 128
    ) -> None:
        self.path = path
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads of one run would take the cores that its neighbours need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = _PROVIDERS[device]
        try:
            self._session = ort.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise RepositoryError(path, f"not a graph that ONNX Runtime can load: {_first_line(error)}") from error
        if wanted[0] not in self._session.get_providers():
            # ONNX Runtime would quietly go on with what it has.
            raise RepositoryError(path, f"cannot run on {device}: ONNX Runtime found no {wanted[0]} here")
        self._check(labels, longest)

    def run(self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...]) -> dict[str, Floats]:
        """Run one batch.

        Args:
            ids: subword ids [B, S].
            mask: 1 at subwords, 0 at padding [B, S].
            predicates: subword index of each row's predicate, 0 for none [B].
            outputs: names of the outputs wanted.

        Returns:
            The outputs by name.
        """
        feed = dict(zip(INPUTS, (ids, mask, predicates), strict=True))
        return dict(zip(outputs, self._session.run(list(outputs), feed), strict=True))

    def _check(self, labels: Labels, longest: int) -> None:
        """Compare the signature with the contract, then run a short and a long batch, which also warms the session."""
        got = {node.name: node.type for node in self._session.get_inputs()}
        if got != dict.fromkeys(INPUTS, "tensor(int64)"):
            raise RepositoryError(self.path, f"inputs are {got}, a cascade has int64 {', '.join(INPUTS)}")
        names = {node.name for node in self._session.get_outputs()}
        if missing := [name for name in OUTPUTS if name not in names]:
            raise RepositoryError(self.path, f"lacks the outputs {', '.join(missing)}")
        ids = np.zeros((2, 5), dtype=np.int64)
        mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        try:
            outputs = self.run(ids, mask, np.array([1, 0]), OUTPUTS)
            long = np.zeros((1, longest), dtype=np.int64)
            self.run(long, np.ones_like(long), np.array([0]), OUTPUTS)
        except Exception as error:
            raise RepositoryError(self.path, f"fails on a trial run: {_first_line(error)}") from error
        b, s = ids.shape
        expected = {
            "pos_logits": (b, s, len(labels.pos)),
            "ner_logits": (b, s, len(labels.ner)),
            "arc_scores": (b, s, s),
            "label_scores": (b, s, s, len(labels.deprel)),
            "srl_logits": (b, s, len(labels.srl)),
            "cls_logits": (b, len(labels.cls)),
        }
        for name, shape in expected.items():
            if outputs[name].shape != shape:
                problem = f"output {name} has shape {outputs[name].shape} where labels.json asks for {shape}"
                raise RepositoryError(self.path, problem)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
