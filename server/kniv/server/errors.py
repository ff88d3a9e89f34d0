"""What can go wrong, in the server's own terms.

    ServeError
    ├── InvalidRequestError     the caller's fault: names the field and the way out
    ├── NotFoundError           no such model, version, variant or item
    ├── ConflictError           the item's name is taken
    ├── NotReadyError           known, but cannot answer now
    ├── NotAllowedError         the server is set up to refuse this
    ├── DeniedError             the caller may not do this
    ├── UnsupportedError        a part of the protocol that is not served here
    ├── OverloadedError         no room now: says why, and when to try again
    ├── DeadlineError           the time for it is over
    ├── StoppingError           the server is about to stop
    ├── RepositoryError         a model on disk is incomplete or broken: names the file
    └── InferenceError          the model failed on a row

The gRPC status of each is chosen in one place, ``kniv.server.services.status``.
"""

from __future__ import annotations

from pathlib import Path

_SHOWN = 64


class ServeError(Exception):
    """Base of all errors that the server raises on purpose."""


class InvalidRequestError(ServeError):
    """A request that cannot be served as it is.

    Args:
        field: path of the offending field, for example ``options.tasks``.
        problem: what is wrong with it and what would be right.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def shown(name: str) -> str:
    """A caller's name for something, quoted and short enough for an error message."""
    return f"'{name}'" if len(name) <= _SHOWN else f"'{name[:_SHOWN]}…'"


class NotFoundError(ServeError):
    """The named thing does not exist here."""


class ConflictError(ServeError):
    """The name is already in use."""


class NotReadyError(ServeError):
    """The named model exists but cannot answer now."""


class NotAllowedError(ServeError):
    """The server's settings rule this out: names the setting."""


class DeniedError(ServeError):
    """The caller has not shown that it may do this."""


class UnsupportedError(ServeError):
    """A part of the protocol that this server has no use for."""


class OverloadedError(ServeError):
    """The server holds as much work as it may.

    Args:
        reason: which bound is reached, for example ``queue_full``.
        retry_after: seconds after which there may be room.
    """

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(f"no room for more work now ({reason}); try again in {retry_after:.3f} s")
        self.reason, self.retry_after = reason, retry_after


class DeadlineError(ServeError):
    """The deadline has passed, or the queue timeout of the priority level, before there was an answer."""


class StoppingError(ServeError):
    """The server is about to stop; another one may answer."""


class RepositoryError(ServeError):
    """A file or folder of the repository is missing or broken.

    Args:
        path: the file or folder.
        problem: what is wrong with it and the way out.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class InferenceError(ServeError):
    """The model failed on this row."""
