"""``kniv chat``: each line typed is a turn, and what is found in it is shown at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from kniv.client._connection import connect
from kniv.client._events import ItemFailed, SentenceEvent
from kniv.client._stream import Stream
from kniv.client._terminal import InputError, draw, model_options, write_what_can_be_shown


def run(arguments: argparse.Namespace) -> int:
    """Annotate turns from standard input until it ends."""
    write_what_can_be_shown()
    with connect(arguments) as client, client.stream(in_order=True, **model_options(arguments)) as stream:
        for line in _lines(f"{arguments.speaker}> "):
            if line.strip():
                _show(stream, stream.turn(line, speaker=arguments.speaker))
    return 0


def _show(stream: Stream, turn_id: str) -> None:
    """Print a turn's sentences, up to its end."""
    for event in stream:
        if isinstance(event, SentenceEvent):
            print(draw(event.sentence), end="\n\n", flush=True)
        elif isinstance(event, ItemFailed):
            print(f"kniv: {event.error.code}: {event.error}", file=sys.stderr)
            return
        elif event.item_id == turn_id:
            return


def _lines(prompt: str) -> Iterator[str]:
    try:
        if not sys.stdin.isatty():
            yield from (line.rstrip("\n") for line in sys.stdin)
            return
        while True:
            try:
                yield input(prompt)
            except EOFError:
                print()
                return
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: not {error.encoding} at byte {error.start}") from None
