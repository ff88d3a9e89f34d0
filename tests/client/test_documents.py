"""Documents over a stream: the same assertions for both clients."""

from __future__ import annotations

import io

import pytest

from kniv.client import InvalidRequestError, Item, ItemDone, Outcome

TEXT = ("Größe" * 800 + " 🙂.\n") * 20


async def events(stream):
    return [event async for event in stream]


def received_document(fake):
    chunks = [entry.document_chunk for entry in fake.received if entry.HasField("document_chunk")]
    return b"".join(chunk.content for chunk in chunks), [chunk.last for chunk in chunks]


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (lambda: TEXT, None),
        (TEXT.encode, None),
        (lambda: io.StringIO(TEXT), None),
        (lambda: io.BytesIO(TEXT.encode()), None),
        (lambda: iter([TEXT[:7], TEXT[7:]]), None),
        (lambda: "", [True]),
        (lambda: "Short.", [True]),
        (lambda: ["In ", b"pieces."], [False, False, True]),
    ],
    ids=["str", "bytes", "text file", "binary file", "iterator", "empty", "short", "mixed"],
)
def test_documents_are_sent_whole_in_pieces(run, fake, make, last):
    async def scenario(client):
        async with client.stream() as stream:
            assert await stream.document(make(), "d") == "d"
            await stream.close()
            done = [event for event in await events(stream) if isinstance(event, ItemDone)]
        assert [event.item for event in done] == [Item("document", "d")]
        content, ends = received_document(fake)
        expected = make()
        if isinstance(expected, str):
            assert content.decode() == expected
        assert ends[-1] is True
        assert sum(ends) == 1
        assert last in (None, ends)
        assert last or content == TEXT.encode()

    run(scenario)


def test_chunks_may_be_cut_inside_a_character(run):
    async def scenario(client):
        async with client.stream() as stream:
            data = "🙂 smiles.".encode()
            await stream.chunk("d", data[:2], last=False)
            await stream.chunk("d", data[2:], last=True)
            await stream.close()
            first, _ = await events(stream)
        assert first.sentence.text == "🙂 smiles."

    run(scenario)


def test_a_document_that_cannot_be_read_is_cancelled(run):
    def torn():
        yield "Begun"
        raise OSError("disk on fire")

    async def scenario(client):
        async with client.stream() as stream:
            with pytest.raises(OSError, match="disk on fire"):
                await stream.document(torn(), "d")
            with pytest.raises(InvalidRequestError, match="document: must be made of str or bytes, not int"):
                await stream.document([1], "never opened")
            await stream.turn("Still here.", turn_id="t")
            await stream.close()
            cancelled, sentence, done = await events(stream)
        assert (cancelled.item, cancelled.outcome) == (Item("document", "d"), Outcome.CANCELLED)
        assert (sentence.item_id, done.item_id) == ("t", "t")

    run(scenario)
