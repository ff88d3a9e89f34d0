"""Where traces and metrics go: a collector that they are sent to, and a page that Prometheus reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from prometheus_client import CollectorRegistry, start_http_server

from kniv.server.hosts import is_loopback
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.settings import TelemetrySettings

log = logging.getLogger(__name__)

_MOST_SPANS = 16384  # that wait to be sent; older ones give way
_SPANS_A_SENDING = 256  # little enough that making a message of them holds up nobody for long
_SPAN_DELAY_SECONDS = 1.0
_SENT, _FAILED = "sent", "failed"

Counts = dict[tuple[str, str], int]


class Exports:
    """All ways out that the settings name.

    Args:
        settings: where to.

    Attributes:
        readers: collect the metrics.
        processor: takes finished spans; None where none are sent.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        self._settings = settings
        self._counts: Counts = {}
        self._senders: list[_SpanExporter | _MetricExporter] = []
        self._page: Any = None
        self.readers: list[MetricReader] = []
        self.processor: SpanProcessor | None = None
        if settings.otlp_endpoint:
            self._send_to(settings.otlp_endpoint)
        if settings.metrics_port is not None:
            self._registry = CollectorRegistry()
            self.readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=self._registry))

    def serve(self) -> None:
        """Let Prometheus read the metrics from now on.

        Raises:
            OSError: the port cannot be listened on.
        """
        port, host = self._settings.metrics_port, self._settings.metrics_host
        if port is None:
            return
        try:
            self._page, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            raise OSError(f"--metrics-port: cannot listen on {host}:{port}: {error.strerror}") from error
        log.info("metrics are served on http://%s:%d/metrics", host, self._page.server_port)
        if not is_loopback(host):
            log.warning("%s: whoever reaches this address may read the metrics, in clear; see --metrics-host", host)

    def counts(self) -> Iterable[tuple[float, dict[str, str]]]:
        """Sendings to the collector by signal and outcome."""
        return [
            (count, {known.SIGNAL: signal, known.OUTCOME: outcome})
            for (signal, outcome), count in list(self._counts.items())
        ]

    def close(self) -> None:
        """Send the spans that wait, and serve no page any more; takes as long as the collector does."""
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()
        if self.processor is not None:
            self.processor.shutdown()

    def abandon(self) -> None:
        """Give up what is being sent."""
        for sender in self._senders:
            sender.shutdown()

    def _send_to(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        if url.scheme == "http" and self._settings.trace_texts and not is_loopback(url.hostname or ""):
            log.warning("%s: callers' texts are sent there in clear; use https:// or --trace-texts false", endpoint)
        self._counts |= dict.fromkeys(product(("traces", "metrics"), (_SENT, _FAILED)), 0)
        timeout, interval = self._settings.otlp_timeout_seconds, self._settings.otlp_interval_seconds * 1e3
        spans = _SpanExporter(self._counts, endpoint=endpoint, timeout=timeout)
        metrics = _MetricExporter(self._counts, endpoint=endpoint, timeout=timeout)
        self._senders += [spans, metrics]
        self.processor = BatchSpanProcessor(
            spans,
            max_queue_size=_MOST_SPANS,
            schedule_delay_millis=_SPAN_DELAY_SECONDS * 1e3,
            max_export_batch_size=_SPANS_A_SENDING,
        )
        self.readers.append(PeriodicExportingMetricReader(metrics, interval, timeout * 1e3))


class _Once:
    """Lets an exporter be shut down once: the sending under way fails then, and no other is begun."""

    def __init__(self, counts: Counts, **options: Any) -> None:
        super().__init__(**options)
        self._outcomes, self._once = counts, threading.Lock()

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        if self._once.acquire(blocking=False):
            super().shutdown(timeout_millis, **options)  # type: ignore[misc]


class _SpanExporter(_Once, OTLPSpanExporter):
    """Counts its sendings."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self._outcomes["traces", _outcome(result is SpanExportResult.SUCCESS)] += 1
        return result


class _MetricExporter(_Once, OTLPMetricExporter):
    """Counts its sendings."""

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **options)
        self._outcomes["metrics", _outcome(result is MetricExportResult.SUCCESS)] += 1
        return result


def _outcome(sent: bool) -> str:
    return _SENT if sent else _FAILED
