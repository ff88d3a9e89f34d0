"""Telemetry that is on: OpenTelemetry's meters and spans, fed from the server's own plain counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource

from kniv.server.models.catalogue import Catalogue
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.observe import Observer
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.calls import CallInterceptor, CallMeter
from kniv.server.telemetry.export import Exports
from kniv.server.telemetry.lanes import Labels, LaneMeter
from kniv.server.telemetry.readings import readings
from kniv.server.telemetry.settings import TelemetrySettings
from kniv.server.telemetry.spans import Spans
from kniv.server.telemetry.telemetry import Telemetry

_NAME = "kniv-serve"
_CLOSE_SECONDS = 2.0  # that a collector which does not answer may delay the server's end


class FullTelemetry(Telemetry):
    """Traces and metrics, pushed by OTLP, scraped by Prometheus, or both.

    Args:
        settings: where to.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        number = version(_NAME)
        # Attributes and name of the environment's (OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) win.
        made = Resource.create({SERVICE_NAME: _NAME, SERVICE_VERSION: number})
        resource = made.merge(OTELResourceDetector().detect())
        self._exports = Exports(settings)
        self._meters = MeterProvider(
            self._exports.readers, resource, exemplar_filter=TraceBasedExemplarFilter(), shutdown_on_exit=False
        )
        self._meter = self._meters.get_meter("kniv.server", number)
        spans = Spans(self._exports.processor, resource, number, settings.trace_ratio)
        calls = CallMeter(
            spans,
            settings.trace_texts,
            self._recorder(known.DURATION),
            self._recorder(known.SENT),
            self._recorder(known.RECEIVED),
            self._recorder(known.ITEMS),
        )
        self.interceptors = (CallInterceptor(calls),)
        self.sampling = spans if settings.otlp_endpoint else None
        self._spans, self._calls = spans, calls
        self._lanes: dict[str, LaneMeter] = {}
        queued = self._histogram(known.QUEUED)
        # The rows of a batch may be of many calls, so that none of them can stand for it as an exemplar.
        self._queued: Callable[[float, Labels], None] = lambda seconds, labels: queued.record(
            seconds, labels, Context()
        )

    def observer(self, model: str, version: int, variant: str) -> Observer:
        """What counts a variant's batches; a version that is loaded anew goes on where it was."""
        fresh = LaneMeter(model, version, variant, self._spans, self._queued)
        return self._lanes.setdefault(fresh.name, fresh)

    def watch(self, engine: Engine, catalogue: Catalogue) -> None:
        """Tell of these from now on.

        Raises:
            OSError: the port of the metrics cannot be listened on.
        """
        read = readings(engine, catalogue, self._calls, self._lanes, self._exports)
        for metric in known.METRICS:
            if metric.kind is known.Kind.HISTOGRAM:
                continue
            make = (
                self._meter.create_observable_counter
                if metric.kind is known.Kind.COUNTER
                else self._meter.create_observable_gauge
            )
            make(metric.name, [_callback(read, metric)], metric.unit, metric.about)
        self._exports.serve()

    async def close(self) -> None:
        """Send what has not been sent, as far as that takes no more than a moment."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._exports.close()
            self._meters.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, name="telemetry-close", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), _CLOSE_SECONDS)
        self._exports.abandon()

    def _histogram(self, metric: known.Metric) -> Histogram:
        return self._meter.create_histogram(
            metric.name,
            metric.unit,
            metric.about,
            explicit_bucket_boundaries_advisory=metric.buckets,
        )

    def _recorder(self, metric: known.Metric) -> Callable[[float, Labels, Context], None]:
        return self._histogram(metric).record


def _callback(
    read: Callable[[known.Metric], Iterable[tuple[float, Labels]]], metric: known.Metric
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(value, labels) for value, labels in read(metric)]
