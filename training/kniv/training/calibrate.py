"""Ranges of a graph's activations on sample rows, for INT8 graphs with fixed ranges."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from tokenizers import Tokenizer

from kniv.server.graphs.calibration import samples
from kniv.server.graphs.ranges import Observer, Range
from kniv.training.data.dialog import read_dialog_acts
from kniv.training.data.treebank import read_conllu
from kniv.training.rows import Ints, RowEncoder

Feed = Mapping[str, Ints]

ROWS = 160


def training_feeds(data: Path, model: Path, rows: int = ROWS) -> list[Feed]:
    """Rows of training text: sentences that mark one word each, and pairs of turns.

    Args:
        data: folder of training data (docs/training.md).
        model: folder with the model's tokenizer.json.
        rows: of each of the two kinds.
    """
    encoder = RowEncoder(Tokenizer.from_file(str(model / "tokenizer.json")))
    trees = read_conllu(data / "ud-ewt-r2.14" / "en_ewt-ud-train.conllu.gz")
    turns = read_dialog_acts(data / "dialog_acts_open_train.jsonl.gz")
    feeds = [
        feed(*_marked(encoder, tree.words, place)) for place, tree in enumerate(trees[:: max(1, len(trees) // rows)])
    ]
    chosen = turns[:: max(1, len(turns) // rows)]
    return feeds + [feed(encoder.pair(turn.previous, turn.text), 0) for turn in chosen]


def sample_feeds(model: Path) -> list[Feed]:
    """Rows of the text that is shipped for models whose training text is not at hand; see :func:`training_feeds`."""
    encoder = RowEncoder(Tokenizer.from_file(str(model / "tokenizer.json")))
    feeds = []
    for place, (previous, text) in enumerate(samples()):
        ids = encoder.pair(previous, text)
        feeds.append(feed(ids, 0 if previous else 1 + place % (len(ids) - 2)))
    return feeds


def feed(ids: Ints, predicate: int) -> Feed:
    """A run of one row [S]."""
    return {
        "input_ids": ids[None],
        "attention_mask": np.ones_like(ids[None]),
        "predicate_idx": np.array([predicate], dtype=np.int64),
    }


def _marked(encoder: RowEncoder, words: Sequence[str], place: int) -> tuple[Ints, int]:
    ids, first = encoder.words(words)
    return ids, int(first[place % len(first)]) if len(first) else 0


def ranges(model: onnx.ModelProto, names: tuple[str, ...], feeds: Iterable[Feed]) -> dict[str, Range]:
    """Range and mean square of each named output of a model, channel by channel, over all feeds.

    Args:
        model: a float model; it is written to a temporary file.
        names: float outputs of it, [..., K].
        feeds: inputs of single runs, without padding, which would count too.

    Raises:
        ValueError: there are no feeds.
    """
    seen = {name: Observer() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observed.onnx"
        onnx.save(model, path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for given in feeds:
            for name, values in zip(names, session.run(list(names), dict(given)), strict=True):
                seen[name].see(values)
    return {name: observer.range() for name, observer in seen.items()}
