"""Nothing of what callers send gets into the log."""

from __future__ import annotations

import logging
import re
import traceback

from kniv.server.errors import RepositoryError

# Messages of these speak of files and addresses; those of all others may quote what was being worked on.
_PLAIN = (RepositoryError, OSError)
_DEEPEST = 4  # of causes
# asyncio's lines show futures with their results and errors, and callbacks with their arguments.
_SHOWS_VALUES, _VALUE = "asyncio", re.compile(r"[<(\n]")


class Redaction(logging.Filter):
    """Writes exceptions as their types and places, without the messages, which may quote a caller's text.

    A filter for handlers, and not a formatter, so that it holds whatever the log's format.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; all pass."""
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = _without_messages(record.exc_info[1])
            record.exc_info = None
        if record.name == _SHOWS_VALUES:
            record.msg, record.args = _VALUE.split(record.getMessage(), maxsplit=1)[0], ()
        return True


def keep_texts_out_of_logs() -> None:
    """Redact whatever the handlers of the root logger write."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redaction())


def _without_messages(error: BaseException, depth: int = 0) -> str:
    frames = (line for frame in traceback.format_tb(error.__traceback__) for line in frame.rstrip().splitlines())
    kind = type(error)
    said = f": {error}" if isinstance(error, _PLAIN) else ""
    own = ["Traceback (most recent call last):", *frames, f"{kind.__module__}.{kind.__qualname__}{said}"]
    if depth == _DEEPEST:
        return "\n".join(own)
    others = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    if (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        others.append(cause)
    return "\n".join([*own, *(_without_messages(other, depth + 1) for other in others)])
