"""A graph is rewritten by the first server that loads it, and found by the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
from tests.e2e.conftest import REPOSITORY, StartServer

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs


def test_the_second_start_finds_what_the_first_made(tmp_path: Path, start_server: StartServer) -> None:
    root = tmp_path / "models"
    shutil.copytree(REPOSITORY / "kniv-mini", root / "kniv-mini", ignore=shutil.ignore_patterns(".optimised"))
    folder = root / "kniv-mini" / "1" / ".optimised"
    answers, logs, entries = [], [], []
    for damage in (False, False, True):
        if damage:
            (entries[0] / "graph").write_bytes(b"damaged")
        server = start_server("--model-repository", str(root))
        logs.append(server.log.read_text())
        entries = list(folder.iterdir())
        with grpc.insecure_channel(server.target) as channel:
            asked = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="The old man the boats near Oslo.")])
            (result,) = stubs.AnnotationServiceStub(channel).AnnotateText(asked).results
        (sentence,) = result.annotation.sentences
        sentence.ClearField("timings")
        answers.append(sentence)
    assert ["rewritten in" in log for log in logs] == [True, False, True]
    assert [folder.name for folder in entries] == [entries[0].name]
    assert answers[0] == answers[1] == answers[2]
