"""What the server's wiring knows of telemetry: here it is off, and costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from kniv.server.models.catalogue import Catalogue
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.observe import Observer
from kniv.server.services.inference.tracing import Sampling
from kniv.server.telemetry.settings import TelemetrySettings


class Telemetry:
    """Telemetry that is off.

    Attributes:
        interceptors: of every listener, the outermost first.
        sampling: of traces; None if none are sent.
    """

    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    sampling: Sampling | None = None

    def observer(self, model: str, version: int, variant: str) -> Observer | None:
        """What is to be told of a variant's batches."""
        return None

    def watch(self, engine: Engine, catalogue: Catalogue) -> None:
        """Tell of these from now on.

        Raises:
            OSError: the port of the metrics cannot be listened on.
        """

    async def close(self) -> None:
        """Send what has not been sent, as far as that takes no more than a moment."""


def telemetry_of(settings: TelemetrySettings) -> Telemetry:
    """The telemetry that the settings ask for."""
    if not settings.otlp_endpoint and settings.metrics_port is None and settings.log_format == "text":
        return Telemetry()  # lines in JSON have the ids of their call's trace, which somebody must follow
    from kniv.server.telemetry.full import FullTelemetry  # late: OpenTelemetry is not needed otherwise

    return FullTelemetry(settings)
