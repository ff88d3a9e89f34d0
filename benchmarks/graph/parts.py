"""Operations and bytes of each part of a cascade, from its dimensions alone.

A multiply and an add are two operations. Bytes are the least that any program must move: every weight once a run, every
part's inputs and outputs once (activations are float32 between parts). ``B`` rows of ``S`` subwords, hidden size ``H``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FLOAT = 4  # bytes
_POSITIONS = 512  # that the published graph looks at, whatever the length
_POS, _NER, _SRL, _ACTS, _RELATIONS = 17, 37, 42, 8, 53
_HEADS = 5


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Of a DeBERTa-v3 encoder with the family's heads: hidden size, layers, feed-forward size."""

    hidden: int = 768
    layers: int = 6
    inner: int = 3072


SMALL = Dimensions()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a run.

    Attributes:
        name: of the part.
        operations: multiplies and adds.
        weights: numbers that are stored in the graph and read once a run.
        activations: numbers read and written.
        integer: whether the INT8 graph has it in integers.
    """

    name: str
    operations: float
    weights: float
    activations: float
    integer: bool = True

    def bytes(self, weight: int) -> float:
        """Bytes moved, with so many a weight (in parts that stay in float: four)."""
        return self.weights * (weight if self.integer else _FLOAT) + self.activations * _FLOAT


def parts(rows: int, length: int, of: Dimensions = SMALL, published: bool = False) -> list[Part]:
    """All parts of a run that answers every head.

    Args:
        rows, length: shape of the run.
        of: the model's dimensions.
        published: count what the published graph does: all 512 relative positions in every row, projected anew, and
            relation scores of every pair of subwords. Otherwise what the answers need.
    """
    return [*_encoder(rows, length, of, published), *_heads(rows, length, of, published)]


def _encoder(rows: int, length: int, of: Dimensions, published: bool) -> Iterator[Part]:
    words, hidden, layers = rows * length, of.hidden, of.layers
    yield Part("embeddings", 0, 0, 2 * words * hidden)
    projections = [
        _linear("Q, K, V", words, hidden, 3 * hidden, layers),
        _linear("output", words, hidden, hidden, layers),
    ]
    yield _sum("encoder projections", projections)
    pairs = words * length
    # Scores and weighted values read and write [B, heads, S, S]; with heads of 64, that is H / 64 numbers a pair.
    heads = hidden // 64
    moved = layers * (4 * words * hidden + 2 * pairs * heads)
    yield Part("attention products", layers * 4 * pairs * hidden, 0, moved, integer=False)
    positions = _POSITIONS if published else 2 * length - 1
    # Content to position and position to content: every query and key with every position that is looked at.
    products = layers * 4 * words * positions * hidden
    moved = layers * 2 * (words * hidden + positions * hidden + words * positions * heads)
    if published:
        # Projected again at every run, by the layer's own query and key weights, which are counted above.
        products += layers * 4 * _POSITIONS * hidden * hidden
        moved += layers * 2 * 2 * _POSITIONS * hidden
    yield Part("relative positions", products, 0, moved, integer=False)
    yield _sum(
        "feed-forward", [_linear("", words, *shape, layers) for shape in ((hidden, of.inner), (of.inner, hidden))]
    )


def _heads(rows: int, length: int, of: Dimensions, published: bool) -> Iterator[Part]:
    words, hidden = rows * length, of.hidden
    narrow, wide = max(hidden // 4, 64), max(hidden // 2, 96)
    states = of.layers + 1
    yield Part("scalar mixes", 2 * _HEADS * states * words * hidden, 0, (states + _HEADS) * words * hidden, False)
    lstms = [_lstm(words, hidden, narrow), _lstm(words, hidden, narrow), _lstm(words, hidden, wide)]
    yield _sum("LSTMs", lstms)
    yield _sum("biaffine products", list(_biaffine(rows, length, hidden, published)))
    yield _sum("heads' layers", list(_layers(rows, words, hidden, narrow, wide)))


def _layers(rows: int, words: int, hidden: int, narrow: int, wide: int) -> Iterator[Part]:
    yield _linear("POS", words, hidden, _POS)
    yield _linear("entities", words, 2 * narrow, hidden)
    yield _linear("entities", words, hidden + _POS, hidden)
    yield _linear("entities", words, hidden, _NER)
    yield _linear("tree", words, hidden + _POS + _NER, hidden)
    yield _linear("tree", words, 2 * narrow, hidden)
    yield _linear("tree", words, hidden, 2 * (hidden // 2) + 2 * (hidden // 8))
    yield _linear("roles", words, 4 * hidden + _POS + _RELATIONS, hidden)
    yield _linear("roles", words, 2 * wide, hidden)
    yield _linear("roles", words, hidden, hidden)
    yield _linear("roles", words, hidden, _SRL)
    yield _linear("act", words, hidden, 1)
    yield Part("act", 2 * words * hidden, 0, words * hidden)
    yield _linear("act", rows, hidden, 2 * hidden)
    yield _linear("act", rows, 2 * hidden, hidden)
    yield _linear("act", rows, hidden, _ACTS)


def _biaffine(rows: int, length: int, hidden: int, published: bool) -> Iterator[Part]:
    words, pairs = rows * length, rows * length * length
    arc, label = hidden // 2 + 1, hidden // 8 + 1
    yield _linear("arcs", words, arc, arc)
    yield Part("arcs", 2 * pairs * arc, 0, 2 * words * arc + pairs)
    yield _linear("relations", words, label, _RELATIONS * label)
    scored = pairs if published else words
    yield Part("relations", 2 * scored * _RELATIONS * label, 0, scored * _RELATIONS)


def _linear(name: str, rows: int, inner: int, columns: int, times: int = 1) -> Part:
    weights = times * inner * columns
    return Part(name, 2 * rows * weights, weights, times * rows * (inner + columns))


def _lstm(words: int, inputs: int, width: int) -> Part:
    """Both directions of four gates each, every one of inputs and state."""
    gates = 2 * 4 * width
    return Part("LSTM", 2 * words * gates * (inputs + width), gates * (inputs + width), words * (inputs + 2 * width))


def _sum(name: str, found: list[Part]) -> Part:
    return Part(
        name,
        sum(part.operations for part in found),
        sum(part.weights for part in found),
        sum(part.activations for part in found),
    )
