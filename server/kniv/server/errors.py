"""What can go wrong, in the server's own terms.

    ServeError
    ├── InvalidRequestError     the caller's fault: names the field and the way out
    ├── NotFoundError           no such model, version, variant or item
    ├── ConflictError           the item's name is taken
    ├── NotReadyError           known, but cannot answer now
    ├── UnavailableError        cannot answer yet or any more: later, or another server, may
    ├── NotAllowedError         the server is set up to refuse this
    ├── DeniedError             the caller has not shown who it is
    ├── ForbiddenError          the caller is known, and may not do this
    ├── UnsupportedError        a part of the protocol that is not served here
    ├── OverloadedError         no room now: says why, and when to try again
    ├── DeadlineError           the time for it is over
    ├── StoppingError           the server is about to stop
    │   └── StreamOverError     this stream is to be opened anew
    ├── HungError               the process cannot end in peace
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


class UnavailableError(ServeError):
    """This server cannot answer yet, or not any more; trying again, here or elsewhere, has a chance.

    Args:
        problem: what stands in the way.
        retry_after: seconds after which to try again.
    """

    def __init__(self, problem: str, retry_after: float = 1.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class NotAllowedError(ServeError):
    """The server's settings rule this out: names the setting."""


class DeniedError(ServeError):
    """The caller has not shown who it is.

    Args:
        reason: what is wrong, for programs: ``TOKEN_MISSING``, ``TOKEN_INVALID`` or ``CREDENTIALS_EXPIRED``.
        problem: the same for people; nothing of what the caller has sent.
    """

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class ForbiddenError(ServeError):
    """The caller may not do this.

    Args:
        grant: what it would need.
        problem: what it lacks.
    """

    def __init__(self, grant: str, problem: str) -> None:
        super().__init__(problem)
        self.grant = grant


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


class StreamOverError(StoppingError):
    """A stream is to be opened anew; what was received of it has been answered.

    Args:
        reason: why, for programs: ``STREAM_AGE``, ``STREAM_IDLE`` or ``CREDENTIALS_EXPIRED``.
        problem: the same for people.
    """

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(f"{problem}; open it anew and send what has no answer yet")
        self.reason = reason


class HungError(ServeError):
    """Runs of a model do not return: the process is to end without waiting for their threads, and to be restarted."""


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
