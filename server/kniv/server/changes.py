"""Word that something has changed."""

from __future__ import annotations

from collections.abc import Callable


class Changes:
    """Tells those who listen that something has changed; what, they look up themselves. For one event loop."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this after every change from now on."""
        self._listeners.append(listener)

    def tell(self) -> None:
        """Something has changed."""
        for listener in self._listeners:
            listener()
