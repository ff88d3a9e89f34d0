"""Files that are read again when they change, so that keys and certificates are rotated without a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from kniv.server.errors import ServeError

log = logging.getLogger(__name__)

T = TypeVar("T")
_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]

_MOST_BYTES = 1 << 20


class Watched(Generic[T]):
    """What some files say, read again when one of them has changed; to be used from any thread.

    Files that cannot be followed (half written, or of a pair that does not fit) leave in force what was read before.

    Args:
        setting: name of the setting that names the files, for messages.
        paths: the files.
        read: makes the value of their contents; raises ValueError or ServeError where it cannot.

    Raises:
        ServeError: the files cannot be read, or not be followed.
    """

    def __init__(self, setting: str, paths: Sequence[Path], read: Callable[..., T]) -> None:
        self._setting, self._paths, self._read = setting, tuple(paths), read
        self._lock = threading.Lock()
        self._state = self._look()
        self._value = self._load()

    def current(self) -> T:
        """What the files say now, or said when they last could be followed."""
        state = self._look()
        if state == self._state:
            return self._value
        with self._lock:
            if state == self._state:
                return self._value
            try:
                value = self._load()
            except ServeError as error:
                if self._look() == state:
                    self._state = state  # said once for each change
                    log.warning("%s; what was read before stays in force", error)
                return self._value
            if self._look() == state:  # else it is being written: looked at again next time
                self._value, self._state = value, state
                log.info("%s: read again", self._setting)
            return self._value

    def _look(self) -> _State:
        return tuple(map(_state, self._paths))

    def _load(self) -> T:
        names = ", ".join(map(str, self._paths))
        try:
            contents = [_content(path) for path in self._paths]
        except OSError as error:
            raise ServeError(f"{self._setting}: {error.filename or names} cannot be read: {error.strerror}") from error
        try:
            return self._read(*contents)
        except ValueError as error:
            raise ServeError(f"{self._setting}: {names}: {error}") from error


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(0, f"it is larger than {_MOST_BYTES} bytes", str(path))
    return content
