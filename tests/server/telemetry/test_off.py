from __future__ import annotations

import asyncio
import subprocess
import sys

from kniv.server.scheduling.trail import NO_TRAIL, Kind, trails
from kniv.server.telemetry.settings import TelemetrySettings
from kniv.server.telemetry.telemetry import telemetry_of


def test_telemetry_that_is_off_puts_itself_before_nothing() -> None:
    telemetry = telemetry_of(TelemetrySettings(log_format="text"))
    assert not telemetry.interceptors
    assert telemetry.sampling is None
    assert telemetry.observer("m", 1, "v") is None
    assert trails().begin(Kind.TURN, "m", 1, "v") is NO_TRAIL
    asyncio.run(telemetry.close())


def test_opentelemetry_is_not_even_imported() -> None:
    script = (
        "import sys, kniv.server.cli, kniv.server.app; "
        "from kniv.server.telemetry.logs import configure; configure('info', 'text'); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.strip() == "[]"
