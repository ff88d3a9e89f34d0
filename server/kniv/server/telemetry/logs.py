"""The server's log lines, on standard error: as text, or each as one JSON object."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Write the process's log lines.

    Args:
        level: name of the least severe level shown.
        style: ``json`` for objects with ``timestamp``, ``level``, ``logger``, ``message``, and with ``trace_id`` and
            ``span_id`` where the line belongs to a call.
    """
    if style == "text":
        logging.basicConfig(level=level.upper(), format=_TEXT)
        return
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes lines of its own, which are no JSON
    handler = logging.StreamHandler()
    handler.setFormatter(_json_formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def last_line(problem: object, style: Literal["text", "json"]) -> None:
    """Say why the process ends, as the log's last line or, where that is text, as any command does."""
    if style == "json":
        logging.getLogger("kniv.server").critical("%s", problem)
    else:
        print(f"kniv-serve: {problem}", file=sys.stderr, flush=True)


def _json_formatter() -> logging.Formatter:
    from opentelemetry import trace  # late: a server that logs as text need not wait for it
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
            super().add_fields(log_data, record, message_dict)
            span = trace.get_current_span().get_span_context()
            if span.is_valid:
                log_data["trace_id"] = trace.format_trace_id(span.trace_id)
                log_data["span_id"] = trace.format_span_id(span.span_id)
                log_data["trace_flags"] = f"{span.trace_flags:02x}"

    return Formatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        timestamp=True,
        json_ensure_ascii=False,
    )
