"""Metrics of the real server, as Prometheus reads them; dashboard, alerts and documentation name none but these."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.e2e.conftest import REPOSITORY, ROOT, Server, StartServer, running
from tests.e2e.wire import chunk, configuration, turn
from tests.server.telemetry.collector import collecting
from tests.server.telemetry.promql import labels, names, of_dashboard, of_rules
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.server.telemetry.instruments import METRICS, Kind
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

EXPRESSIONS = [
    *of_dashboard(ROOT / "deploy" / "grafana" / "kniv-serve.json"),
    *of_rules(ROOT / "deploy" / "prometheus" / "alerts.yml"),
]
SCRAPED = {"instance", "job", "le"}  # labels that Prometheus itself gives
STRANGER = "nobody_knows_me"


def scrape(server: Server) -> list[Sample]:
    found = re.search(r"http://\S+?/metrics", server.log.read_text())
    assert found
    with urlopen(found[0]) as page:
        families = text_string_to_metric_families(page.read().decode())
        return [sample for family in families for sample in family.samples]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sample]]:
    """What a server tells that has done a bit of everything."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    token = folder / "admin.token"
    token.write_text("a-token-that-no-call-brings\n")
    flags = ["--model-repository", str(REPOSITORY), "--metrics-port", "0", "--admin-token-file", str(token)]
    with collecting() as collector, running(folder, *flags, "--otlp-endpoint", collector.endpoint) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = stubs.AnnotationServiceStub(channel)
            inputs = [calls.TextInput(text="They left. She saw him go.")]
            for _ in range(3):
                stub.AnnotateText(calls.AnnotateTextRequest(inputs=inputs), timeout=60)
            requests = [configuration(), turn("a", "Hello there."), chunk("d", b"One line.", last=True)]
            list(stub.StreamAnnotations(iter([*requests, chunk("e", b"no UTF-8: \xff", last=True)]), timeout=60))
            triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                triton.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="kniv-mini"), timeout=60)
            for number in range(5):
                with pytest.raises(grpc.RpcError):
                    stub.GetModel(calls.GetModelRequest(name=f"{STRANGER}{number}"), timeout=60)
                with pytest.raises(grpc.RpcError):
                    channel.unary_unary(f"/kniv.v1.AnnotationService/{STRANGER}{number}")(b"", timeout=60)
        yield scrape(server)


def total(samples: list[Sample], name: str, **wanted: str) -> float:
    return sum(s.value for s in samples if s.name == name and wanted.items() <= s.labels.items())


def test_every_metric_of_the_table_is_told(samples: list[Sample]) -> None:
    told = {sample.name for sample in samples}
    # Tallies per row or batch need no row to have met that fate: they are told as 0 from the start.
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        assert {metric.prometheus + suffix for suffix in suffixes} <= told, metric.name
    known = {metric.prometheus for metric in METRICS}
    assert {re.sub("_(bucket|sum|count|created)$", "", name) for name in told} - known <= {
        "target_info",
        *(name for name in known if name in told),
        *(re.sub("_count$", "", name) for name in known),
        *(name.removesuffix("_total") for name in known),
    }


def test_labels_are_those_of_the_table(samples: list[Sample]) -> None:
    for metric in METRICS:
        expected = {label.replace(".", "_") for label in metric.labels}
        for sample in samples:
            if sample.name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == metric.prometheus:
                assert set(sample.labels) - {"le"} == expected, sample


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_dashboard_and_alerts_name_only_what_is_told(samples: list[Sample], expression: str) -> None:
    assert names(expression)
    assert names(expression) <= {sample.name for sample in samples}
    of_named = {label for sample in samples if sample.name in names(expression) for label in sample.labels}
    assert labels(expression) <= of_named | SCRAPED


def test_the_counts_are_those_of_what_was_done(samples: list[Sample]) -> None:
    annotate = "kniv.v1.AnnotationService/AnnotateText"
    assert total(samples, "grpc_server_call_started_total", grpc_method=annotate) == 3
    ended = "grpc_server_call_duration_seconds_count"
    assert total(samples, ended, grpc_method=annotate, grpc_status="OK") == 3
    assert total(samples, ended, grpc_status="NOT_FOUND") == 5
    assert total(samples, ended, grpc_method="other", grpc_status="UNIMPLEMENTED") == 5
    items = "kniv_item_duration_seconds_count"
    assert total(samples, items, kniv_item_kind="text", kniv_outcome="complete") == 3
    assert total(samples, items, kniv_item_kind="turn") == 1
    assert total(samples, items, kniv_item_kind="document", grpc_status="OK") == 1
    rows, batches = total(samples, "kniv_inference_count_total"), total(samples, "kniv_inference_executions_total")
    assert rows == total(samples, "kniv_batch_rows_total") == total(samples, "kniv_queue_dispatched_total")
    assert rows >= batches >= 1
    assert rows >= 8  # of which each sentence has at least one
    assert total(samples, "kniv_batch_padded_tokens_total") >= total(samples, "kniv_batch_tokens_total") > 0
    assert total(samples, "kniv_server_calls_active") == total(samples, "kniv_scheduler_rows") == 0
    assert total(samples, "kniv_model_state", kniv_model="kniv-mini", kniv_state="READY") == 1


def test_refused_calls_are_counted_by_reason(samples: list[Sample]) -> None:
    load = "inference.GRPCInferenceService/RepositoryModelLoad"
    assert total(samples, "kniv_calls_refused_total", grpc_method=load, kniv_reason="token_missing") == 1
    assert total(samples, "kniv_calls_refused_total") == 1


def test_no_alert_counts_what_callers_do_wrong(samples: list[Sample]) -> None:
    items = "kniv_item_duration_seconds_count"
    assert total(samples, items, kniv_outcome="failed", grpc_status="INVALID_ARGUMENT") == 1
    (rule,) = [rule for rule in of_rules(ROOT / "deploy" / "prometheus" / "alerts.yml") if items in rule]
    failed = rule.partition("/")[0]
    (counted,) = re.findall(r'grpc_status=~"(.*?)"', failed)
    assert not [s for s in samples if s.name == items and re.fullmatch(counted, s.labels["grpc_status"])]
    for status in ("INTERNAL", "UNAVAILABLE"):
        assert re.fullmatch(counted, status)


def test_callers_cannot_make_labels(samples: list[Sample]) -> None:
    assert not any(STRANGER in value for sample in samples for value in sample.labels.values())


def test_prometheus_alone_needs_no_collector(start_server: StartServer) -> None:
    server = start_server("--model-repository", str(REPOSITORY), "--metrics-port", "0", "--log-format", "json")
    with grpc.insecure_channel(server.target) as channel:
        inputs = [calls.TextInput(text="They left.")]
        stubs.AnnotationServiceStub(channel).AnnotateText(calls.AnnotateTextRequest(inputs=inputs), timeout=60)
        told = service_pb2_grpc.GRPCInferenceServiceStub(channel).TraceSetting(service_pb2.TraceSettingRequest())
    assert list(told.settings["trace_level"].value) == ["OFF"]
    samples = scrape(server)
    annotate = "kniv.v1.AnnotationService/AnnotateText"
    assert total(samples, "grpc_server_call_duration_seconds_count", grpc_method=annotate, grpc_status="OK") == 1
    assert total(samples, "kniv_item_duration_seconds_count", kniv_item_kind="text") == 1
    assert total(samples, "kniv_inference_count_total") >= 1
    assert not [sample for sample in samples if sample.name == "kniv_telemetry_exports_total"]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert not [line for line in lines if line["level"] not in ("DEBUG", "INFO")]


def test_the_documentation_has_the_table() -> None:
    from kniv.server.telemetry.instruments import table

    assert table() in (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
