"""Masks of attention layers, held to their meaning: real subwords look at all real ones and at nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kniv.server.graphs.graph import Array
from kniv.server.graphs.trace import Trace

_LOW = -1e4 + 1  # what is lower shuts a subword out


class UnlikeError(Exception):
    """The layer is not what it would have to be; the message says where."""


def added(sizes: Trace, mask: NDArray[np.int64], name: str, *, shut: bool) -> Array:
    """What a mask adds to the score of each pair of subwords, [B, heads or 1, S, S].

    Args:
        sizes: the graph's values at the sizes of ``mask``.
        mask: the ``attention_mask`` [B, S] that they were worked out with.
        name: what is added.
        shut: it is flags instead, of what is shut out.

    Raises:
        UnlikeError: it is anything else than a mask of the padding.
    """
    rows, length = mask.shape
    found = sizes.values.get(name)
    if found is None or not 2 <= found.ndim <= 4:
        raise UnlikeError("what is added to the scores is no mask")
    found = found.reshape((1,) * (4 - found.ndim) + found.shape)
    whole = (rows, found.shape[1], length, length)
    if any(size not in (1, wanted) for size, wanted in zip(found.shape, whole, strict=True)):
        raise UnlikeError("what is added to the scores is no mask")
    wide: Array = np.broadcast_to(np.where(found, -1e4, 0.0) if shut else found, whole)
    for row, real in enumerate(mask.sum(1)):
        if wide[row, :, :real, :real].any() or (wide[row, :, :real, real:] > _LOW).any():
            raise UnlikeError("the mask does not shut out the padding, and it alone")
    return wide


def padded_queries(wide: Array, mask: NDArray[np.int64]) -> bool | None:
    """What padded queries look at: no key (True), the same as all others (False), something else (None)."""
    if (wide.transpose(0, 2, 1, 3)[mask == 0] < _LOW).all():
        return True
    return None if (wide != wide[:, :, :1]).any() else False
