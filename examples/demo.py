"""Starts a server on a free port, streams a dialogue and a document through the client, prints what comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kniv.client import Client, ItemFailed, SentenceEvent, render

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent / "model_repository"


@contextmanager
def server() -> Iterator[str]:
    """A running server's target; it is stopped, and drains, at the end."""
    command = [sys.executable, "-m", "kniv.server", "serve", "--port", "0", "--model-repository", str(REPOSITORY)]
    process = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"ready on (\S+)", process.stdout.readline())
        if match is None:
            sys.exit("the server did not start; its message stands above")
        yield match[1]
    finally:
        process.terminate()
        process.wait(timeout=60)


def main() -> None:
    """Send everything over one stream, then print what came back, in the order in which it was said."""
    turns = [json.loads(line) for line in (HERE / "dialogue.jsonl").read_text(encoding="utf-8").splitlines()]
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    with server() as target, Client(target) as client, client.stream(in_order=True) as stream:
        print(f"kniv-serve on {target}: {stream.model.name}, version {stream.model.version}, {stream.model.variant}\n")
        for number, turn in enumerate(turns, 1):
            stream.turn(turn["text"], speaker=turn["speaker"], turn_id=f"turn {number}")
        with (HERE / "document.txt").open("rb") as document:
            stream.document(document, "document.txt")
        stream.close()
        for event in stream:
            if isinstance(event, SentenceEvent):
                place = f"{event.item_id}, {event.speaker}" if event.speaker else event.item_id
                print(f"── {place} " + "─" * (76 - len(place)))
                print(render(event.sentence, color=color), end="\n\n")
            elif isinstance(event, ItemFailed):
                sys.exit(f"{event.item_id}: {event.error}")
            elif event.item.kind == "document":
                spent = event.timings.total_s * 1000
                print(f"{event.sentence_count} sentences of {event.item_id}, the last after {spent:.0f} ms")


if __name__ == "__main__":
    main()
