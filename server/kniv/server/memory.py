"""Memory that goes back to the system: settings of glibc's allocator. With any other C library nothing here happens."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# Numbers of malloc.h, mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE = 1 << 20  # bytes; what a sentence needs is smaller, what a load needs is larger
_SPARE = 4 << 20  # bytes at the end of a heap that are kept for what comes next


def bound(cores: int) -> None:
    """Have large blocks go back as soon as they are freed, and a heap a core; to be called before threads start.

    Left to itself glibc takes the size of the largest block that was ever freed, a model's, as the one from which on
    blocks are worth a mapping of their own. All that later loads need then comes from the heaps, of which there is one
    a thread, and stays in them. What the environment sets (``MALLOC_ARENA_MAX`` and so on) is left as it is.
    """
    library = _glibc()
    if library is None:
        return
    wanted = {
        "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, _LARGE),
        "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, _SPARE),
        "MALLOC_ARENA_MAX": (_ARENA_MAX, cores),
    }
    for name, (option, value) in wanted.items():
        if name not in os.environ:
            library.mallopt(option, value)


def give_back() -> None:
    """Give pages that hold nothing back to the system: after a load or an unload there are many."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is one that has these."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
