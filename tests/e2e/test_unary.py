"""AnnotateText, ListModels and GetModel against the real server."""

from __future__ import annotations

import grpc
import pytest
from tests.e2e.conftest import Server

from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs
from kniv.v1 import model_pb2

Stub = stubs.AnnotationServiceStub


def annotate(stub: Stub, *inputs: calls.TextInput, **options: object) -> calls.AnnotateTextResponse:
    request = calls.AnnotateTextRequest(inputs=inputs, options=calls.AnnotationOptions(**options), request_id="r7")  # type: ignore[arg-type]
    return stub.AnnotateText(request, timeout=120)


def test_all_five_layers_of_a_plain_sentence(stub: Stub) -> None:
    response = annotate(stub, calls.TextInput(text="Angela Merkel visited Paris on Monday."))
    assert response.request_id == "r7"
    assert (response.model.name, response.model.version, response.model.variant) == ("kniv-mini", 1, "int8")
    (sentence,) = response.results[0].annotation.sentences
    assert [token.text for token in sentence.tokens] == ["Angela", "Merkel", "visited", "Paris", "on", "Monday", "."]
    assert [token.upos for token in sentence.tokens] == ["PROPN", "PROPN", "VERB", "PROPN", "ADP", "PROPN", "PUNCT"]
    assert [token.dependency.head for token in sentence.tokens] == [2, 0, 2, 2, 5, 2, 2]
    assert {(entity.text, entity.type) for entity in sentence.entities} >= {
        ("Angela Merkel", "PERSON"),
        ("Paris", "GPE"),
    }
    (frame,) = sentence.frames
    assert sentence.tokens[frame.predicate].text == "visited"
    assert {(argument.role, argument.text) for argument in frame.arguments} >= {
        ("ARG0", "Angela Merkel"),
        ("ARG1", "Paris"),
    }
    assert sentence.dialog_act.label == sentence.dialog_act.scores[0].label
    assert sum(score.score for score in sentence.dialog_act.scores) == pytest.approx(1, abs=1e-5)
    assert sentence.timings.total_duration.ToNanoseconds() > 0


def test_a_bad_text_fails_alone(stub: Stub) -> None:
    bad = calls.TextInput(text="Run.", predicates=[wire.Span(start=50, end=51)])
    good = calls.TextInput(text="It works.")
    first, second, third = annotate(stub, good, bad, good).results
    assert first.annotation.sentences[0].text == third.annotation.sentences[0].text == "It works."
    assert second.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "inputs[1].predicates[0].start" in second.error.message


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_text_without_words_has_an_empty_annotation(stub: Stub, text: str) -> None:
    (result,) = annotate(stub, calls.TextInput(text=text)).results
    assert result.HasField("annotation") and not result.annotation.sentences


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"model": "nope"}, grpc.StatusCode.NOT_FOUND, "'nope'"),
        ({"version": -2}, grpc.StatusCode.INVALID_ARGUMENT, "options.version"),
        ({"variant": "fp8"}, grpc.StatusCode.NOT_FOUND, "'fp8'"),
        ({"tasks": [wire.TASK_POS, 0]}, grpc.StatusCode.INVALID_ARGUMENT, "options.tasks[1]"),
    ],
)
def test_options_at_fault_are_refused_by_name(
    stub: Stub, options: dict[str, object], code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        annotate(stub, calls.TextInput(text="Hello."), **options)
    assert failure.value.code() == code
    assert said in failure.value.details()


def test_too_many_texts_in_one_call(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        annotate(stub, *[calls.TextInput(text="")] * 1025)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "1025 texts" in failure.value.details()


def test_too_much_text_in_one_call(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        annotate(stub, *[calls.TextInput(text="word " * 30_000)] * 2)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "StreamAnnotations" in failure.value.details()


def test_a_long_name_is_quoted_short(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        annotate(stub, calls.TextInput(text="Hello."), model="m" * 20_000)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["AnnotateText", "ListModels", "GetModel", "StreamAnnotations"])
def test_bytes_that_are_no_request_are_refused_as_such(server: Server, method: str) -> None:
    with grpc.insecure_channel(server.target) as channel:
        path = f"/kniv.v1.AnnotationService/{method}"
        with pytest.raises(grpc.RpcError) as failure:
            if method == "StreamAnnotations":
                list(channel.stream_stream(path)(iter([b"\xff"])))
            else:
                channel.unary_unary(path)(b"\xff")
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_models_are_listed_and_described(stub: Stub) -> None:
    (listed,) = stub.ListModels(calls.ListModelsRequest()).models
    assert listed.name == "kniv-mini" and not listed.versions[0].HasField("labels")
    (version, *_) = stub.GetModel(calls.GetModelRequest(name="kniv-mini")).model.versions
    assert version.ready and version.default_variant == "int8"
    sizes = [len(values) for values in (version.labels.pos, version.labels.entity_types, version.labels.relations)]
    assert sizes == [17, 18, 53]
    assert len(version.labels.roles) == 20 and len(version.labels.dialog_acts) == 8
    assert version.limits.max_subwords == 128
    basic = stub.GetModel(calls.GetModelRequest(view=model_pb2.MODEL_VIEW_BASIC)).model
    assert basic == listed


def test_an_unknown_model_is_not_found(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        stub.GetModel(calls.GetModelRequest(name="kniv-huge"))
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
