"""From PyTorch to one ONNX graph with the published names."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import onnx
import torch

from kniv.training.cascade import Cascade, Outputs

OPSET = 18
INPUTS = ("input_ids", "attention_mask", "predicate_idx")
_AXES = {"input_ids": {0: "B", 1: "S"}, "attention_mask": {0: "B", 1: "S"}, "predicate_idx": {0: "B"}}
_OUTPUT_AXES = {name: {0: "B", 1: "S"} for name in ("pos_logits", "ner_logits", "srl_logits")} | {
    "arc_scores": {0: "B", 1: "S", 2: "S"},
    "label_scores": {0: "B", 1: "S", 2: "S"},
    "cls_logits": {0: "B"},
}


def export_graph(model: Cascade, path: Path) -> None:
    """Write ``model`` as an ONNX graph: three int64 inputs, six float outputs, any B and S.

    ``attention_mask`` must be a prefix of ones with at least one in every row: its sum is the row's
    length, which the LSTMs are given where the cascade was built with ``use_lengths``.
    Weights beyond ONNX's 2 GiB limit of one file are not supported (none of the family's has them).

    Args:
        model: the cascade, on the CPU; it is left in evaluation mode.
        path: the file to write; its folder is made if need be.
    """
    model.eval()
    ids = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 0, 0]])
    sample = (ids, (ids > 0).long(), torch.tensor([1, 2]))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter is deprecated, yet it alone takes DeBERTa's scripted functions with free axes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            sample,
            buffer,
            input_names=list(INPUTS),
            output_names=list(Outputs._fields),
            dynamic_axes=_AXES | _OUTPUT_AXES,
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, path)
