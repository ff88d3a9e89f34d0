"""LSTMs are told each row's length, so that their backward direction starts at the row's own last subword.

Without, it reads the padding first, and a sentence's answer depends on how long its batch-mates are.
"""

from __future__ import annotations

import numpy as np

from kniv.server.graphs.graph import Graph
from kniv.server.graphs.report import PassReport

NAME = "lengths"
_KINDS = ("LSTM", "DynamicQuantizeLSTM")
_LENGTHS = 4  # place of sequence_lens among an LSTM's inputs


def apply(graph: Graph) -> PassReport:
    """Give ``sequence_lens`` to every LSTM that has none; ``attention_mask`` must be a prefix of ones."""
    layers = [node for node in graph.nodes if node.op_type in _KINDS]
    without = [node for node in layers if len(node.input) <= _LENGTHS or not node.input[_LENGTHS]]
    if not without:
        return PassReport(NAME, 0, "every LSTM has its rows' lengths" if layers else "no LSTM")
    if "attention_mask" not in graph.inputs:
        return PassReport(NAME, 0, "no input attention_mask to take lengths from")
    total = graph.add("ReduceSum", ["attention_mask", graph.ints(1)], "subwords", keepdims=0)
    # ONNX Runtime refuses a length of 0; what a row of padding alone gives means nothing anyway.
    least = graph.add("Max", [total, graph.weight("one_subword", np.array(1))], "subwords_or_one")
    lengths = graph.add("Cast", [least], "lengths", to=6)
    for node in without:
        node.input.extend([""] * (_LENGTHS + 1 - len(node.input)))
        node.input[_LENGTHS] = lengths
    graph.touch()
    return PassReport(NAME, len(without), "LSTMs given their rows' lengths")
