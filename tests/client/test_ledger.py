"""What a stream's broken connections must not change, whatever is sent and wherever they break."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.breaking import Model, Request, Wire, by_item, reference_of

from kniv.client._requests import document_cancellation, document_chunk, turn, turn_cancellation
from kniv.v1 import annotation_service_pb2

texts = st.sampled_from(["", "one", "two words", "three little words", "four or five words", "fail", "refuse"])


@st.composite
def scripts(draw, *, disturbed: bool, ordered: bool):
    """Turns, revisions and documents; if disturbed, with cancellations, names used twice and partial turns."""
    script: list[Request] = []
    for number in range(draw(st.integers(1, 25))):
        choice = draw(st.sampled_from(["turn", "turn", "turn", "document", "cancel", "again"]))
        earlier = draw(st.integers(0, max(0, number - 1)))
        if choice == "turn" or (not disturbed and choice != "document"):
            partial = disturbed and draw(st.booleans())
            script.append(
                turn(f"t{number}", draw(texts), speaker="ab"[number % 2], partial=partial, revision=0, predicates=())
            )
        elif choice == "document":
            content = draw(st.sampled_from([b"some words", b"", b"a b c d e f g"]))
            cuts = draw(st.lists(st.integers(0, len(content)), max_size=3).map(sorted))
            pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
            chunks = [document_chunk(f"d{number}", piece, place == len(cuts)) for place, piece in enumerate(pieces)]
            if ordered or draw(st.booleans()):
                script += chunks
            else:
                script.append(chunks[0])
                for chunk in chunks[1:]:
                    script += [
                        turn(
                            f"{number}-{len(script)}", "between", speaker="c", partial=False, revision=0, predicates=()
                        ),
                        chunk,
                    ]
        elif choice == "cancel":
            revision = draw(st.sampled_from([None, 0, 1]))
            script.append(turn_cancellation(f"t{earlier}", revision))
            script.append(document_cancellation(f"d{earlier}"))
        else:
            revision = draw(st.integers(0, 3))
            script.append(
                turn(f"t{earlier}", draw(texts), speaker="a", partial=False, revision=revision, predicates=())
            )
    return script


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans(), st.integers(0, 3), st.integers(0, 1 << 30))
def test_nothing_is_lost_or_doubled_wherever_the_connection_breaks(data, ordered, context_turns, seed):
    script = data.draw(scripts(disturbed=False, ordered=ordered))
    unbroken = Wire(script, random.Random(seed), ordered=ordered, context_turns=context_turns, breaks=0).run()
    broken = Wire(script, random.Random(seed + 1), ordered=ordered, context_turns=context_turns, breaks=8).run()
    assert by_item(broken) == by_item(unbroken)
    if ordered:

        def lasting(events):
            return [event for event in events if not (event.HasField("error") and not event.error.item_ended)]

        assert lasting(broken) == lasting(unbroken)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans(), st.integers(0, 3), st.integers(0, 1 << 30))
def test_every_item_ends_once_whatever_is_cancelled_revised_or_named_twice(data, ordered, context_turns, seed):
    script = data.draw(scripts(disturbed=True, ordered=ordered))
    broken = Wire(script, random.Random(seed), ordered=ordered, context_turns=context_turns, breaks=8).run()
    ended: dict = {}
    for event in broken:
        key = reference_of(event)
        if event.HasField("sentence"):
            assert key not in ended, "a sentence came after its item's end"
        elif event.HasField("completion") or event.error.item_ended:
            assert key not in ended, "an item ended twice"
            ended[key] = event
    found = by_item(broken)
    for (name, revision, is_document), (sentences, _) in found.items():
        assert len(sentences) == len({index for index, _, _ in sentences}), "a sentence came twice"
        end = ended.get((name, revision, is_document))
        assert end is None or not end.HasField("completion") or end.completion.sentence_count == len(sentences)
    sent = {(r.turn.turn_id, r.turn.revision, False) for r in script if r.HasField("turn")}
    sent |= {(r.document_chunk.document_id, 0, True) for r in script if r.HasField("document_chunk")}
    assert sent <= found.keys(), "an item was never answered"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 400))
def test_what_is_kept_is_bounded_and_documents_beyond_it_fail_by_name(seed, room):
    pieces = [document_chunk("d", b"word " * 20, last) for last in (False, False, False, True)]
    script = [turn(f"t{n}", "two words", speaker="", partial=False, revision=0, predicates=()) for n in range(20)]
    wire = Wire(
        script[:10] + pieces + script[10:],
        random.Random(seed),
        ordered=False,
        context_turns=1,
        breaks=3,
        max_held_bytes=room,
    )
    found = by_item(wire.run())
    assert found.keys() == {*((f"t{n}", 0, False) for n in range(20)), ("d", 0, True)}
    _, ends = found["d", 0, True]
    assert ends in ([(annotation_service_pb2.OUTCOME_COMPLETE, 80)], [(14, True)])
    assert all(
        ends == [(annotation_service_pb2.OUTCOME_COMPLETE, 2)] for name, (_, ends) in found.items() if name[0] != "d"
    )


@st.composite
def revisions(draw):
    """Turns that are revised, partial or not, and a few cancellations of their newest revisions."""
    script: list[Request] = []
    newest: dict[str, int] = {}
    cancellations = draw(st.integers(0, 3))
    # Which turn is cancelled whose newest revision is refused depends on when that is.
    refused = "" if cancellations else "refuse"
    for number in range(draw(st.integers(1, 30))):
        choice = draw(st.sampled_from(["new", "new", "revision", "revision", "cancel"]))
        if choice == "cancel" and cancellations and newest:
            cancellations -= 1
            name = draw(st.sampled_from([*newest]))
            script.append(turn_cancellation(name, draw(st.sampled_from([None, newest[name]]))))
            continue
        # Turns further back than the server remembers are new ones for another server.
        name = draw(st.sampled_from([*newest][-10:])) if choice == "revision" and newest else f"t{number}"
        newest[name] = revision = newest.get(name, -1) + draw(st.integers(1, 2))
        text = draw(st.sampled_from([f"{number}a", f"{number}a {number}b {number}c", "", "fail", refused]))
        script.append(turn(name, text, speaker="", partial=draw(st.booleans()), revision=revision, predicates=()))
    return script


def eager(script, context_turns, effective):
    """What each turn is answered if it is so before the next message; of the cancellations some are in time."""
    model, found = Model(random.Random(0), False, context_turns), []
    for place, request in enumerate(script):
        if not request.HasField("cancellation"):
            model.take(request)
        elif place in effective and (work := model.turns.get(request.cancellation.item.turn_id)):
            model.history.remove(work.arrival)
        while (response := model.answer()) is not None:
            found.append(response)
    return by_item(found)


@settings(max_examples=300, deadline=None)
@given(revisions(), st.booleans(), st.integers(0, 3), st.integers(0, 1 << 30))
def test_contexts_are_those_of_an_unbroken_stream(script, ordered, context_turns, seed):
    found = by_item(Wire(script, random.Random(seed), ordered=ordered, context_turns=context_turns, breaks=8).run())
    cancellations = [place for place, request in enumerate(script) if request.HasField("cancellation")]
    # Without cancellations there is one. With them, those of turns that end before may or may not have been in time.
    possible = [
        eager(script, context_turns, effective)
        for size in range(len(cancellations) + 1)
        for effective in combinations(cancellations, size)
    ]
    assert found.keys() == possible[0].keys()
    cancelled = {script[place].cancellation.item.turn_id for place in cancellations}
    begun = [key for key, (_, ends) in possible[0].items() if ends != [(3, False)]]
    newest = {key[0]: key for key in begun}
    for key, (sentences, ends) in found.items():
        assert set(sentences) <= {sentence for one in possible for sentence in one[key][0]}
        assert len({index for index, _, _ in sentences}) == len(sentences)
        if ends == possible[0][key][1]:
            assert len(sentences) == len(possible[0][key][0])
            continue
        ((outcome, count),) = ends
        assert count == len(sentences)
        if outcome == annotation_service_pb2.OUTCOME_CANCELLED:
            assert key[0] in cancelled
        else:
            assert outcome == annotation_service_pb2.OUTCOME_SUPERSEDED
            assert newest[key[0]] != key
