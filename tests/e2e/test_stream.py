"""The stream protocol against the real server: what it promises, and what it does with bad input."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.e2e.conftest import Server
from tests.e2e.wire import (
    Request,
    Response,
    answer,
    chunk,
    chunks,
    completions,
    configuration,
    errors,
    name_of,
    sentences_of,
    turn,
)

from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

Stub = stubs.AnnotationServiceStub

TEXT = "Angela Merkel visited Paris on Monday. She didn't stay long, because the café was closed!"
POS_ONLY = {"tasks": [wire.TASK_POS]}


def exchange(stub: Stub, *requests: Request) -> list[Response]:
    return list(stub.StreamAnnotations(iter(requests), timeout=120))


def test_an_empty_stream_ends_well(stub: Stub) -> None:
    assert exchange(stub) == []


def test_a_configured_stream_without_items_says_what_it_runs_on(stub: Stub) -> None:
    (response,) = exchange(stub, configuration(options={"tasks": [wire.TASK_DEP, wire.TASK_POS]}))
    assert response.configured.model.name == "kniv-mini"
    assert list(response.configured.tasks) == [wire.TASK_POS, wire.TASK_DEP]


@pytest.mark.parametrize("first", [turn("1", "Hello."), chunk("d", b"Hello."), Request()])
def test_a_stream_must_begin_with_its_configuration(stub: Stub, first: Request) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        exchange(stub, first, turn("2", "Hello."))
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "configuration" in failure.value.details()


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"options": {"model": "kniv-huge"}}, grpc.StatusCode.NOT_FOUND, "kniv-mini"),
        ({"options": {"version": 99}}, grpc.StatusCode.NOT_FOUND, "no version 99"),
        ({"options": {"variant": "int3"}}, grpc.StatusCode.NOT_FOUND, "int8"),
        ({"options": {"tasks": [77]}}, grpc.StatusCode.INVALID_ARGUMENT, "configuration.options.tasks[0]"),
        ({"options": {"offset_unit": 9}}, grpc.StatusCode.INVALID_ARGUMENT, "configuration.options.offset_unit"),
        ({"options": {"priority": -1}}, grpc.StatusCode.INVALID_ARGUMENT, "configuration.options.priority"),
        ({"ordering": 9}, grpc.StatusCode.INVALID_ARGUMENT, "configuration.ordering"),
        ({"context_turns": 5}, grpc.StatusCode.INVALID_ARGUMENT, "configuration.context_turns"),
    ],
)
def test_a_configuration_at_fault_is_refused_by_name(
    stub: Stub, fields: dict[str, object], code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        exchange(stub, configuration(**fields))
    assert failure.value.code() == code
    assert said in failure.value.details()


def test_a_refused_request_carries_the_field_in_its_details(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        exchange(stub, configuration(options={"tasks": [77]}))
    details = dict(failure.value.trailing_metadata())["grpc-status-details-bin"]
    bad_request = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(details).details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].field == "configuration.options.tasks[0]"


def test_a_second_configuration_is_refused_and_the_stream_goes_on(stub: Stub) -> None:
    responses = exchange(stub, configuration(), turn("1", "Hello."), configuration(), turn("2", "Goodbye."))
    (error,) = errors(responses)
    assert error.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert set(completions(responses)) == {"1", "2"}


def test_a_turn_id_used_twice_is_refused_and_the_first_is_answered(stub: Stub) -> None:
    responses = exchange(stub, configuration(), turn("1", "Hello."), turn("1", "Goodbye."), turn("2", "Thanks."))
    (error,) = errors(responses)
    assert error.error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    assert [s.text for s in sentences_of(responses, "1")] == ["Hello."]
    assert set(completions(responses)) == {"1", "2"}


@pytest.mark.parametrize(
    "bad",
    [
        turn("", "No name."),
        turn("x", "Negative.", revision=-1),
        chunk("", b"No name."),
        Request(cancellation=calls.Cancellation(item=calls.ItemReference(turn_id="nobody"))),
        Request(cancellation=calls.Cancellation()),
        Request(),
        turn("x", "Run now.", predicates=[wire.Span(start=99, end=100)]),
        turn("x", "Run now.", predicates=[wire.Span(start=3, end=4)]),
        chunk("x", b"bad \xff bytes", last=True),
        chunk("x", "cut café".encode()[:-1], last=True),
    ],
)
def test_a_bad_message_costs_only_itself(stub: Stub, bad: Request) -> None:
    responses = exchange(stub, configuration(), turn("1", "Hello."), bad, turn("2", "Thanks."))
    (error,) = errors(responses)
    assert error.error.code and error.error.message
    assert set(completions(responses)) == {"1", "2"}


def test_bytes_that_are_no_message_cost_only_themselves(server: Server) -> None:
    def raw() -> Iterator[bytes]:
        yield configuration().SerializeToString()
        yield turn("1", "Hello.").SerializeToString()
        yield turn("xy", "Bad name.").SerializeToString().replace(b"xy", b"\xff\xfe")
        yield b"\x07 no message"
        yield turn("2", "Goodbye.").SerializeToString()

    with grpc.insecure_channel(server.target) as channel:
        call = channel.stream_stream(
            "/kniv.v1.AnnotationService/StreamAnnotations", None, calls.StreamAnnotationsResponse.FromString
        )
        responses = list(call(raw(), timeout=60))
    assert [error.error.code for error in errors(responses)] == [grpc.StatusCode.INVALID_ARGUMENT.value[0]] * 2
    assert set(completions(responses)) == {"1", "2"}


@pytest.mark.parametrize("text", ["", "   \n\t ", "\u00a0\u2003"])
def test_a_turn_without_words_is_complete_and_empty(stub: Stub, text: str) -> None:
    responses = exchange(stub, configuration(), turn("1", text))
    assert completions(responses)["1"].sentence_count == 0
    assert completions(responses)["1"].outcome == calls.OUTCOME_COMPLETE


STRANGE = [
    "\x00",
    "Nul\x00inside a word, and \x00 alone.",
    "👩‍👩‍👧‍👦 is a family 👍🏽 and e\u0301 a combining mark.",
    "שלום עולם. مرحبا بالعالم",
    "\u202eright to left\u202c override",
    "\ufeffbyte order mark",
    "a" * 100_000,
    "! " * 3000,
    "word " * 400 + ".",
    "你好世界",
    "-LRB- <unk> [MASK] [SEP] [CLS] ##ing",
]


@pytest.mark.parametrize(
    "unit", [wire.OFFSET_UNIT_CODE_POINT, wire.OFFSET_UNIT_UTF8_BYTE, wire.OFFSET_UNIT_UTF16_CODE_UNIT]
)
@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_strange_text_gets_a_full_answer_with_exact_offsets(stub: Stub, text: str, unit: wire.OffsetUnit) -> None:
    codec = {1: "utf-32-le", 2: "utf-8", 3: "utf-16-le"}[unit]
    size = {1: 4, 2: 1, 3: 2}[unit]
    encoded = text.encode(codec)

    def cut(span: wire.Span) -> str:
        return encoded[span.start * size : span.end * size].decode(codec)

    responses = exchange(stub, configuration(options={"offset_unit": unit}), turn("1", text), turn("2", "Still here."))
    assert not errors(responses)
    covered = ""
    for sentence in sentences_of(responses, "1"):
        assert cut(sentence.span) == sentence.text
        for token in sentence.tokens:
            assert cut(token.span) == token.text
            covered += token.text
        check_tree(sentence)
        for entity in sentence.entities:
            assert cut(entity.span) == entity.text
    assert "".join(covered.split()) == "".join(text.split())
    assert completions(responses)["2"].sentence_count == 1


def check_tree(sentence: wire.SentenceAnnotation) -> None:
    """One root, and every token reaches it; the root alone is called root."""
    heads = [token.dependency.head for token in sentence.tokens]
    roots = [index for index, head in enumerate(heads) if index == head]
    assert len(roots) == 1
    assert [i for i, token in enumerate(sentence.tokens) if token.dependency.relation == "root"] == roots
    for start in range(len(heads)):
        at, steps = start, 0
        while heads[at] != at:
            at, steps = heads[at], steps + 1
            assert steps <= len(heads)


def test_a_long_sentence_is_windowed_and_says_so(stub: Stub) -> None:
    text = "I saw " + "a red house and " * 60 + "a tree."
    turns = (turn("1", text), turn("2", "I saw a tree."), turn("3", "\u6f22" * 200))
    responses = exchange(stub, configuration(), *turns)
    (long,), (short,), (word,) = (sentences_of(responses, name) for name in "123")
    assert long.windowed and not short.windowed
    assert word.windowed and len(word.tokens) == 1
    assert all(token.upos for token in long.tokens)
    check_tree(long)


def test_unary_and_stream_agree_however_the_document_is_cut(stub: Stub) -> None:
    content = (TEXT * 3).encode()
    unary = stub.AnnotateText(calls.AnnotateTextRequest(inputs=[calls.TextInput(text=TEXT * 3)]))
    expected = [answer(sentence) for sentence in unary.results[0].annotation.sentences]
    assert len(expected) > 3
    for size in (1, 7, 1000):
        responses = exchange(stub, configuration(), *chunks("d", content, size), turn("t", TEXT * 3))
        assert [answer(sentence) for sentence in sentences_of(responses, "d")] == expected
        assert [answer(sentence) for sentence in sentences_of(responses, "t")] == expected


def test_the_turn_before_is_context_of_the_dialog_act(stub: Stub) -> None:
    question, reply = "Shall I book the table for seven?", "Yes, please."
    streamed = exchange(stub, configuration(), turn("1", question), turn("2", reply))
    alone = exchange(stub, configuration(context_turns=0), turn("1", question), turn("2", reply))
    unary = stub.AnnotateText(
        calls.AnnotateTextRequest(
            inputs=[calls.TextInput(text=reply, previous_text=question), calls.TextInput(text=reply)]
        )
    )
    with_context, without = (result.annotation.sentences[0] for result in unary.results)
    assert answer(sentences_of(streamed, "2")[0]) == answer(with_context)
    assert answer(sentences_of(alone, "2")[0]) == answer(without)
    assert answer(with_context).dialog_act != answer(without).dialog_act


def test_partial_turns_give_no_context_and_revisions_replace(stub: Stub) -> None:
    question, reply = "Shall I book the table for seven?", "Yes, please."
    responses = exchange(
        stub,
        configuration(),
        turn("1", question),
        turn("2", "Yes,", is_partial=True),
        turn("2", reply, revision=1),
        turn("3", "Thanks.", speaker="Ann"),
    )
    plain = exchange(stub, configuration(), turn("1", question), turn("2", reply), turn("3", "Thanks."))
    final = [r for r in responses if r.HasField("sentence") and r.sentence.item.revision == 1]
    assert answer(final[0].sentence.annotation) == answer(sentences_of(plain, "2")[0])
    assert answer(sentences_of(responses, "3")[0]) == answer(sentences_of(plain, "3")[0])
    assert {r.sentence.speaker for r in responses if name_of(r.sentence.item) == "3"} == {"Ann"}
    ends = [r.completion for r in responses if r.HasField("completion") and r.completion.item.turn_id == "2"]
    assert {end.item.revision for end in ends} == {0, 1}


def test_in_order_answers_come_in_order(stub: Stub) -> None:
    requests = [turn(str(number), TEXT if number % 3 == 0 else "Fine.") for number in range(30)]
    responses = exchange(stub, configuration(ordering=calls.ORDERING_IN_ORDER), *requests)
    came = []
    for response in responses:
        if response.HasField("sentence"):
            came.append((int(name_of(response.sentence.item)), response.sentence.annotation.index))
        elif response.HasField("completion"):
            came.append((int(name_of(response.completion.item)), 1 << 30))
    assert came == sorted(came)
    assert len(completions(responses)) == 30


def test_an_ordered_stream_takes_one_document_at_a_time(stub: Stub) -> None:
    ordered = configuration(ordering=calls.ORDERING_IN_ORDER)
    responses = exchange(
        stub, ordered, chunk("d", b"Hello. "), turn("1", "Too soon."), chunk("d", b"Bye.", last=True), turn("2", "Now.")
    )
    (error,) = errors(responses)
    assert "'d' is still open" in error.error.message
    assert set(completions(responses)) == {"d", "2"}


def test_a_cancelled_document_ends_so_and_its_later_chunks_are_ignored(stub: Stub) -> None:
    cancel = Request(cancellation=calls.Cancellation(item=calls.ItemReference(document_id="d")))
    responses = exchange(
        stub, configuration(), chunk("d", b"One. Two."), cancel, chunk("d", b" Three."), turn("1", "Hello.")
    )
    assert not errors(responses)
    assert completions(responses)["d"].outcome == calls.OUTCOME_CANCELLED
    assert completions(responses)["1"].outcome == calls.OUTCOME_COMPLETE


def test_half_closing_ends_open_documents(stub: Stub) -> None:
    responses = exchange(stub, configuration(), chunk("d", b"One. Two"))
    assert [sentence.text for sentence in sentences_of(responses, "d")] == ["One.", "Two"]
    assert completions(responses)["d"].outcome == calls.OUTCOME_COMPLETE


def test_frames_for_the_predicates_that_the_caller_names(stub: Stub) -> None:
    text = "The destruction of the city shocked everyone."
    spans = [wire.Span(start=4, end=15)]
    named = exchange(stub, configuration(options={"tasks": [wire.TASK_SRL]}), turn("1", text, predicates=spans))
    every = exchange(stub, configuration(options={"tasks": [wire.TASK_SRL]}), turn("1", text))
    (sentence,) = sentences_of(named, "1")
    assert [sentence.tokens[frame.predicate].text for frame in sentence.frames] == ["destruction"]
    (sentence,) = sentences_of(every, "1")
    assert [sentence.tokens[frame.predicate].text for frame in sentence.frames] == ["shocked"]


@pytest.mark.parametrize("task", [wire.TASK_POS, wire.TASK_NER, wire.TASK_DEP, wire.TASK_SRL, wire.TASK_DIALOG_ACT])
def test_only_what_was_asked_for_is_filled_and_it_equals_the_full_answer(stub: Stub, task: wire.Task) -> None:
    (full, *_) = sentences_of(exchange(stub, configuration(), turn("1", TEXT)), "1")
    (one, *_) = sentences_of(exchange(stub, configuration(options={"tasks": [task]}), turn("1", TEXT)), "1")
    assert [t.upos for t in one.tokens] == [t.upos if task == wire.TASK_POS else "" for t in full.tokens]
    assert list(one.entities) == (list(full.entities) if task == wire.TASK_NER else [])
    assert list(one.frames) == (list(full.frames) if task == wire.TASK_SRL else [])
    assert one.HasField("dialog_act") == (task == wire.TASK_DIALOG_ACT)
    for mine, whole in zip(one.tokens, full.tokens, strict=True):
        assert mine.HasField("dependency") == (task == wire.TASK_DEP)
        assert not mine.HasField("dependency") or mine.dependency == whole.dependency


def test_ten_thousand_turns_in_one_stream(tiny_server: Server) -> None:
    def requests() -> Iterator[Request]:
        yield configuration(options={"tasks": [wire.TASK_DIALOG_ACT]})
        for number in range(10_000):
            yield turn(str(number), "Fine, thanks.")

    with grpc.insecure_channel(tiny_server.target) as channel:
        ends = [
            name_of(response.completion.item)
            for response in stubs.AnnotationServiceStub(channel).StreamAnnotations(requests())
            if response.HasField("completion")
        ]
    assert sorted(ends, key=int) == [str(number) for number in range(10_000)]


def test_a_ten_megabyte_document_cut_inside_characters_and_words(tiny_server: Server) -> None:
    ship = "zürichseedampfschifffahrtsgesellschaft" * 8  # few sentences and words for so many bytes: they take the time
    paragraph = f"The café in Zürich wasn’t open, so we took the {ship} until the rain came. " * 40 + "\n\n"
    content = (paragraph * (10_000_000 // len(paragraph.encode()) + 1)).encode()
    assert len(content) >= 10_000_000

    def requests() -> Iterator[Request]:
        yield configuration(options=POS_ONLY)
        yield from chunks("d", content, 65_521)

    text, seen, ended = content.decode(), set(), None
    with grpc.insecure_channel(tiny_server.target) as channel:
        for response in stubs.AnnotationServiceStub(channel).StreamAnnotations(requests()):
            if response.HasField("sentence"):
                found = response.sentence.annotation
                assert text[found.span.start : found.span.end] == found.text
                seen.add(found.index)
            elif response.HasField("completion"):
                ended = response.completion
    assert ended is not None and ended.outcome == calls.OUTCOME_COMPLETE
    assert seen == set(range(ended.sentence_count))
    assert ended.sentence_count == text.count(". ")


def test_a_client_that_vanishes_leaves_the_server_serving(tiny_server: Server) -> None:
    def endless() -> Iterator[Request]:
        yield configuration()
        number = 0
        while True:
            yield turn(str(number), TEXT)
            number += 1

    for _ in range(5):
        channel = grpc.insecure_channel(tiny_server.target)
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(endless())
        assert next(call).HasField("configured")
        assert next(call) is not None
        channel.close()
    with grpc.insecure_channel(tiny_server.target) as channel:
        responses = exchange(stubs.AnnotationServiceStub(channel), configuration(), turn("1", "Still there?"))
    assert set(completions(responses)) == {"1"}
