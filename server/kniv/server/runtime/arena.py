"""The memory of runs on the CPU: one arena for all sessions of the process that run there alone."""

from __future__ import annotations

from functools import cache
from threading import Lock

import onnxruntime as ort

_making = Lock()


def share(options: ort.SessionOptions) -> None:
    """Have a session's runs use the common arena; its weights stay out of it, so that they go when the session goes.

    An arena keeps what it ever held. With one a session, which is ONNX Runtime's own way, every model, and every load
    of it until the last request has left it, keeps what its largest runs needed; see ADR 8.
    """
    with _making:
        _make()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


@cache
def _make() -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({}))
