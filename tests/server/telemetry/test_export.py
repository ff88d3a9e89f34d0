"""Telemetry that a collector does not keep up with."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.context import Context
from tests.server.telemetry.collector import collecting

from kniv.server.telemetry import export
from kniv.server.telemetry.full import FullTelemetry
from kniv.server.telemetry.settings import TelemetrySettings

MOST, SENDING = 64, 16


def test_spans_that_nobody_takes_give_way_to_newer_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "_MOST_SPANS", MOST)
    monkeypatch.setattr(export, "_SPANS_A_SENDING", SENDING)
    made = 10 * MOST
    with collecting(answering=False) as collector:
        settings = TelemetrySettings(
            otlp_endpoint=collector.endpoint, otlp_timeout_seconds=60, otlp_interval_seconds=3600
        )
        telemetry = FullTelemetry(settings)
        spans, processor = telemetry._spans, telemetry._exports.processor
        assert processor is not None

        def record(number: int) -> None:
            context, parent = spans.begin(str(number), Context())
            spans.record(str(number), context, parent, 0.0, 1.0, {})

        for number in range(SENDING):
            record(number)
        assert collector.asked.wait(60)  # they are being sent, and no others are until there is an answer
        for number in range(SENDING, made):
            record(number)
        collector.answers.set()
        assert processor.force_flush()
        told = [int(span.name) for span in collector.spans()]
        first, last = told[:-MOST], told[-MOST:]
        assert last == [*range(made - MOST, made)]
        assert 1 <= len(first) <= SENDING and first == [*range(len(first))]
        asyncio.run(telemetry.close())
    assert 1 <= len([line for line in caplog.messages if "Queue full" in line]) < 10
