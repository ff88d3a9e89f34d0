"""The bidirectional LSTM of the heads, in PyTorch and as one ONNX node."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLSTM(nn.Module):
    """Bidirectional LSTM, [B, S, D] to [B, S, 2 * hidden].

    With ``use_lengths`` the backward direction starts at each row's own last subword. The published
    graphs were exported without: their backward direction reads the padding first.
    """

    def __init__(self, inputs: int, hidden: int, use_lengths: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.use_lengths = use_lengths

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Both directions' states, forward first; zeros beyond a row's length where lengths are used."""
        if torch.onnx.is_in_onnx_export():
            return self._as_node(values, mask)
        if not self.use_lengths:
            return self.lstm(values)[0]
        packed = pack_padded_sequence(values, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=values.shape[1])
        return output

    def _as_node(self, values: Tensor, mask: Tensor) -> Tensor:
        """The same, traced as one ONNX LSTM: the exporter's own translation ties the graph to one batch size."""
        lstm, directions = self.lstm, ("", "_reverse")
        weights = [
            torch.stack([_gates(getattr(lstm, f"weight_{kind}_l0{way}")) for way in directions])
            for kind in ("ih", "hh")
        ]
        biases = [
            torch.cat([_gates(getattr(lstm, f"bias_{kind}_l0{way}")) for kind in ("ih", "hh")]) for way in directions
        ]
        lengths = mask.sum(1).to(torch.int32) if self.use_lengths else None
        # [S, 2, B, hidden] back to [B, S, 2 * hidden]
        output = _OnnxLstm.apply(values.transpose(0, 1), *weights, torch.stack(biases), lengths, lstm.hidden_size)
        return output.permute(2, 0, 1, 3).flatten(2)


def _gates(parameter: Tensor) -> Tensor:
    """PyTorch's gate order (input, forget, cell, output) in ONNX's (input, output, forget, cell)."""
    into, forget, cell, out = parameter.chunk(4)
    return torch.cat([into, out, forget, cell])


class _OnnxLstm(torch.autograd.Function):
    """Stands for the ONNX operator while a model is traced; computes nothing but the right shape."""

    @staticmethod
    def forward(
        _context: Any, values: Tensor, _inputs: Tensor, _recurrent: Tensor, _bias: Tensor, _lengths: Any, hidden: int
    ) -> Tensor:
        return values.new_zeros(values.shape[0], 2, values.shape[1], hidden)

    @staticmethod
    def symbolic(graph: Any, values: Any, inputs: Any, recurrent: Any, bias: Any, lengths: Any, hidden: int) -> Any:
        given = [values, inputs, recurrent, bias]
        given += [] if lengths is None or lengths.node().mustBeNone() else [lengths]
        return graph.op("LSTM", *given, hidden_size_i=hidden, direction_s="bidirectional", outputs=1)
