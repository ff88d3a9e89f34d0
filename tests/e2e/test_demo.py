"""What `make demo` runs."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.e2e.conftest import ROOT


def test_the_demo_prints_every_layer_of_every_turn_and_of_the_document() -> None:
    examples = ROOT / "examples"
    command = [sys.executable, str(examples / "demo.py")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    turns = [json.loads(line) for line in (examples / "dialogue.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, turn in enumerate(turns, 1):
        assert f"turn {number}, {turn['speaker']}" in done.stdout
    for layer in ("VERB", "nsubj", "GPE", "frame", "act"):
        assert layer in done.stdout
    assert "sentences of document.txt" in done.stdout.splitlines()[-1]
