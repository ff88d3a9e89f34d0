"""Which weights of eight bits a CPU multiplies rightly.

Without VNNI, x86 CPUs add pairs of products of uint8 activations and int8 weights in 16 bits, and what does not fit is
cut off. This module needs no ONNX, as the cache of rewritten graphs reads it at every start.
"""

from __future__ import annotations

import platform
from pathlib import Path

FULL, SAFE = 127, 64  # weight levels; with 64 no pair of products overflows


def native_levels(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """Weight levels of graphs that run on this machine: :data:`FULL` where it has VNNI or is no x86, else :data:`SAFE`.

    Args:
        cpuinfo: Linux's description of the CPU; SAFE where there is none.
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        return FULL  # dot products into 32 bits, and no saturation without them either
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    return FULL if {"avx512_vnni", "avx_vnni"} & set(flags) else SAFE
