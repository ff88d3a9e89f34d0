from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import numpy_helper

from kniv.server.graphs.pipeline import optimise
from kniv.server.graphs.vnni import FULL, SAFE

from .conftest import Source, batch, run, session
from .test_int8 import calibrated, everywhere

PLACES = {"MatMulIntegerToFloat": ((1, 3),), "DynamicQuantizeLSTM": ((1, 8), (2, 10))}


def pairs(model: onnx.ModelProto) -> set[tuple[str, str]]:
    found = [(node, place) for node in everywhere(model) for place in PLACES.get(node.op_type, ())]
    return {(node.input[weight], node.input[scale]) for node, (weight, scale) in found}


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}


def test_weights_made_for_vnni_are_halved_without_it_and_keep_what_they_say(source: Source) -> None:
    full = optimise(source.load(), calibrated, FULL).model
    safe = optimise(copy.deepcopy(full), levels=SAFE)
    assert safe.report[0].places == len(pairs(full)) > 10
    before, after = values(full), values(safe.model)
    assert pairs(safe.model) == pairs(full)
    for weight, scale in pairs(full):
        assert np.abs(after[weight]).max() <= SAFE
        assert (after[scale] == 2 * before[scale]).all()
        assert np.abs(2 * after[weight] - before[weight]).max() <= 1
    feed = batch(3, 2, 20)
    exact, near = run(session(full), feed), run(session(safe.model), feed)
    for name in ("pos_logits", "arc_scores", "cls_logits"):
        error = np.sqrt(((near[name] - exact[name]) ** 2).mean())
        assert error < 0.1 * exact[name].std(), name


def test_nothing_changes_where_there_is_nothing_to_halve(source: Source) -> None:
    safe = optimise(source.load(), calibrated, SAFE).model
    again = optimise(copy.deepcopy(safe), levels=SAFE)
    assert again.report[0].places == 0
    assert again.model == safe
    assert all(report.name != "levels" for report in optimise(copy.deepcopy(safe), levels=FULL).report)
