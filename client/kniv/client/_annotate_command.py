"""``kniv annotate``: a file goes to the server in pieces, and its sentences are written as they come back."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kniv.client._annotation import Sentence
from kniv.client._connection import connect
from kniv.client._errors import KnivError
from kniv.client._events import ItemFailed, SentenceEvent
from kniv.client._formats import to_conllu, to_json
from kniv.client._stream import Stream
from kniv.client._terminal import InputError, draw, model_options, write_data_as_utf8, write_what_can_be_shown

_PIECE_BYTES = 32 * 1024
_STDIN = 0


def run(arguments: argparse.Namespace) -> int:
    """Annotate ``arguments.file``."""
    name = "standard input" if arguments.file == "-" else arguments.file
    write = _writer(arguments.format, "stdin" if arguments.file == "-" else Path(arguments.file).stem)
    with (
        _open(arguments.file) as file,
        connect(arguments) as client,
        client.stream(in_order=True, **model_options(arguments)) as stream,
    ):
        sender = _Sender(stream, _utf8_pieces(file, name))
        sender.start()
        for event in stream:
            if isinstance(event, SentenceEvent):
                print(write(event.sentence), end="", flush=True)
            elif isinstance(event, ItemFailed):
                raise event.error
        sender.finish()
    return 0


class _Sender(threading.Thread):
    """Sends while the main thread reads, so that a file of any length passes through bounded memory.

    A daemon, for it may be waiting for standard input when the main thread is done.
    """

    def __init__(self, stream: Stream, pieces: Iterator[bytes]) -> None:
        super().__init__(name="kniv-sender", daemon=True)
        self._stream = stream
        self._pieces = pieces
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._stream.document(self._pieces)
        except (InputError, KnivError) as error:
            self._error = error
        finally:
            self._stream.close()

    def finish(self) -> None:
        """Wait for the end of it; raise the error that stopped it."""
        self.join()
        if self._error is not None:
            raise self._error


def _open(path: str) -> contextlib.closing[BinaryIO] | BinaryIO:
    # Unbuffered: pieces are big enough, a pipe gives what has arrived, and a thread that waits in a buffered standard
    # input at exit would crash the interpreter.
    try:
        return open(_STDIN if path == "-" else path, "rb", buffering=0, closefd=path != "-")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _utf8_pieces(file: BinaryIO, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    sent = 0
    while True:
        try:
            piece = file.read(_PIECE_BYTES)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from None
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: not UTF-8 at byte {sent - pending + error.start}") from None
        if not piece:
            return
        yield piece
        sent += len(piece)


def _writer(format_name: str, document: str) -> Callable[[Sentence], str]:
    if format_name == "table":
        write_what_can_be_shown()
        return lambda sentence: draw(sentence) + "\n\n"
    write_data_as_utf8()
    if format_name == "jsonl":
        return lambda sentence: to_json(sentence) + "\n"
    return lambda sentence: to_conllu(sentence, f"{document}-{sentence.index + 1}")
