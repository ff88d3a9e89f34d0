"""Log lines as JSON, in a process of their own, as they are configured for the whole process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from kniv.server.telemetry.settings import TelemetrySettings


def logged(script: str, *, redacted: bool = False) -> list[dict[str, Any]]:
    begin = "import logging; from kniv.server.telemetry.logs import configure; configure('info', 'json'); "
    if redacted:
        begin += "from kniv.server.security.redact import keep_texts_out_of_logs; keep_texts_out_of_logs(); "
    command = [sys.executable, "-c", f"{begin}log = logging.getLogger('kniv.x')\n{script}"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not said.stdout
    return [json.loads(line) for line in said.stderr.splitlines()]


def test_a_line_is_one_object_whatever_it_says() -> None:
    (line,) = logged(r"""log.debug('not shown'); log.warning('two\nlines, "quoted", %s, %d', 'é', 3)""")
    assert line.pop("timestamp").startswith("20")
    assert line == {"level": "WARNING", "logger": "kniv.x", "message": 'two\nlines, "quoted", é, 3'}


FAILS = "try:\n    raise ValueError('secret')\nexcept ValueError:\n    log.exception('failed')"


def test_an_exception_is_a_field() -> None:
    (line,) = logged(FAILS)
    assert line["message"] == "failed"
    assert line["exception"].endswith("ValueError: secret")


def test_an_exception_s_message_is_left_out_where_texts_are() -> None:
    (line,) = logged(FAILS, redacted=True)
    assert "ValueError" in json.dumps(line)
    assert "secret" not in json.dumps(line)


def test_a_line_within_a_span_has_its_ids() -> None:
    (line,) = logged(
        "from opentelemetry import trace as t\n"
        "with t.use_span(t.NonRecordingSpan(t.SpanContext(1, 2, False, t.TraceFlags(1)))): log.info('within')"
    )
    assert (line["trace_id"], line["span_id"], line["trace_flags"]) == (f"{1:032x}", f"{2:016x}", "01")


def test_text_is_the_usual_format() -> None:
    assert TelemetrySettings().log_format == "text"
