"""An OpenTelemetry collector in this process, well or ill."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass
class Collector:
    """What has come in; ``answers`` is what lets it answer, at the latest after ``patience`` seconds."""

    endpoint: str = ""
    traces: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    answers: threading.Event = field(default_factory=threading.Event)
    patience: float | None = None

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        """Data points of a histogram in all that came in."""
        return [
            point
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.histogram.data_points
        ]

    def content(self) -> bytes:
        return b"".join(request.SerializeToString() for request in (*self.traces, *self.metrics))

    def _take(self, kept: list[Any], request: Any) -> None:
        self.asked.set()
        self.answers.wait(self.patience)
        kept.append(request)


@contextmanager
def collecting(answering: bool = True, patience: float | None = None) -> Iterator[Collector]:
    """A collector on a free loopback port; one that does not answer lets its callers wait, for ever or so long."""
    collector = Collector(patience=patience)
    if answering:
        collector.answers.set()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            collector._take(collector.traces, request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            collector._take(collector.metrics, request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        collector.answers.set()
        server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}
