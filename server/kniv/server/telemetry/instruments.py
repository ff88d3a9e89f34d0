"""Every metric of the server: its name, unit and labels, in one table that the documentation is held to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Fine enough for single milliseconds, and up to the longest streams.
SECONDS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1800.0),
)
BYTES = (0.0, *(float(1 << power) for power in range(6, 32, 2)))


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: OpenTelemetry's.
        kind: how it behaves.
        unit: in UCUM; ``{row}`` and the like for counts.
        labels: its attributes.
        about: what it tells.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    about: str
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name at the Prometheus endpoint; a histogram's series have ``_bucket``, ``_sum``, ``_count`` after it."""
        unit = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + unit + ("_total" if self.kind is Kind.COUNTER else "")


_METHOD, STATUS = "grpc.method", "grpc.status"
MODEL, VERSION, VARIANT, LEVEL = "kniv.model", "kniv.version", "kniv.variant", "kniv.priority"
REASON, STATE, KIND, OUTCOME, SIGNAL = "kniv.reason", "kniv.state", "kniv.item.kind", "kniv.outcome", "kniv.signal"
_LANE = (MODEL, VERSION, VARIANT)
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

STARTED = Metric("grpc.server.call.started", _C, "{call}", (_METHOD,), "calls begun")
ACTIVE = Metric("kniv.server.calls.active", _G, "{call}", (_METHOD,), "calls and streams open now")
DURATION = Metric("grpc.server.call.duration", _H, "s", (_METHOD, STATUS), "from a call's begin to its status", SECONDS)
SENT = Metric(
    "grpc.server.call.sent_total_compressed_message_size",
    _H,
    "By",
    (_METHOD, STATUS),
    "messages sent in a call (the server compresses none)",
    BYTES,
)
RECEIVED = Metric(
    "grpc.server.call.rcvd_total_compressed_message_size",
    _H,
    "By",
    (_METHOD, STATUS),
    "messages received in a call; those that a client compresses count as they are unpacked",
    BYTES,
)
CALLS_REFUSED = Metric(
    "kniv.calls.refused",
    _C,
    "{call}",
    (_METHOD, REASON),
    "calls that ended for what ErrorInfo's reason says: a bound, a token or a grant",
)
ITEMS = Metric(
    "kniv.item.duration",
    _H,
    "s",
    (KIND, OUTCOME, STATUS),
    "from the arrival of a turn, document or text to its end",
    SECONDS,
)
QUEUE = Metric("kniv.queue.rows", _G, "{row}", (*_LANE, LEVEL), "rows that wait (Triton: pending)")
QUEUED = Metric(
    "kniv.queue.duration", _H, "s", (*_LANE, LEVEL), "wait of the row of each batch that waited longest", SECONDS
)
WAITED = Metric("kniv.queue.time", _C, "s", (*_LANE, LEVEL), "seconds that all rows of batches waited, summed up")
DISPATCHED = Metric("kniv.queue.dispatched", _C, "{row}", (*_LANE, LEVEL), "rows that have left the queue in a batch")
INFERENCES = Metric("kniv.inference.count", _C, "{row}", _LANE, "rows answered (Triton: inference count)")
EXECUTIONS = Metric("kniv.inference.executions", _C, "{batch}", _LANE, "batches run (Triton: execution count)")
FAILURES = Metric("kniv.inference.failures", _C, "{row}", _LANE, "rows that were wanted and had no answer from a batch")
BATCH_ROWS = Metric("kniv.batch.rows", _C, "{row}", _LANE, "rows of all batches")
TOKENS = Metric("kniv.batch.tokens", _C, "{token}", _LANE, "subwords of all batches, without padding")
PADDED = Metric("kniv.batch.padded_tokens", _C, "{token}", _LANE, "subwords of all batches, with padding")
INPUT = Metric("kniv.compute.input", _C, "s", _LANE, "seconds spent packing batches")
INFER = Metric("kniv.compute.infer", _C, "s", _LANE, "seconds spent running them")
OUTPUT = Metric("kniv.compute.output", _C, "s", _LANE, "seconds spent reading and decoding their answers")
REFUSED = Metric("kniv.rows.refused", _C, "{row}", (*_LANE, REASON), "rows that were not admitted")
EXPIRED = Metric("kniv.rows.expired", _C, "{row}", (*_LANE, REASON), "rows whose time was up before an answer")
CANCELLED = Metric("kniv.rows.cancelled", _C, "{row}", _LANE, "rows whose caller had gone")
HUNG = Metric("kniv.runs.hung", _C, "{batch}", _LANE, "runs that did not return when told to stop")
HELD_ROWS = Metric("kniv.scheduler.rows", _G, "{row}", (), "rows that wait or run")
HELD_BYTES = Metric("kniv.scheduler.size", _G, "By", (), "bytes of those rows")
RUNNING = Metric("kniv.scheduler.batches", _G, "{batch}", (), "batches that run")
STATES = Metric("kniv.model.state", _G, "1", (MODEL, VERSION, STATE), "1 for the state that a model version is in")
MEMORY = Metric("process.memory.usage", _G, "By", (), "resident memory of the process")
CPU = Metric("process.cpu.time", _C, "s", ("cpu.mode",), "processor time of the process")
EXPORTS = Metric("kniv.telemetry.exports", _C, "{export}", (SIGNAL, OUTCOME), "sendings to the collector")

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def table() -> str:
    """All metrics as a Markdown table."""
    lines = ["| metric | at the Prometheus endpoint | kind, unit | attributes | what it tells |", "|" + "---|" * 5]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        unit = metric.unit.strip("{}")
        lines.append(f"| `{metric.name}` | `{metric.prometheus}` | {metric.kind}, {unit} | {labels} | {metric.about} |")
    return "\n".join(lines)
