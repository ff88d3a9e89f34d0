"""The settings about traces, metrics and logs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class TelemetrySettings(BaseModel):
    """What is told about the server's work; a part of :class:`kniv.server.settings.ServeSettings`."""

    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OpenTelemetry collector that traces and metrics are sent to by OTLP over gRPC, for example "
        "http://127.0.0.1:4317; nothing is sent if empty",
    )
    otlp_interval_seconds: float = Field(15.0, ge=0.1, le=3600, description="time between two sendings of metrics")
    otlp_timeout_seconds: float = Field(5.0, gt=0, le=60, description="time that one sending may take")
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="part of the calls that is traced where the caller has not decided already"
    )
    trace_texts: bool = Field(False, description="whether traces hold the callers' texts and names of items")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="port where Prometheus finds the metrics, at /metrics; 0 takes a free one"
    )
    metrics_host: str = Field("127.0.0.1", description="address of that port")
    log_format: Literal["text", "json"] = Field("text", description="how log lines are written")
