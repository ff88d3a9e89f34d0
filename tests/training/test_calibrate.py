from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from kniv.server.graphs.calibration import samples
from kniv.training.calibrate import Feed, sample_feeds, training_feeds


def check(feeds: list[Feed]) -> None:
    """Rows of one, unpadded, that mark a subword of their own."""
    for feed in feeds:
        rows, length = feed["input_ids"].shape
        assert rows == 1
        assert (feed["attention_mask"] == np.ones((1, length))).all()
        assert 0 <= feed["predicate_idx"][0] < length
    marked = [feed["predicate_idx"][0] for feed in feeds]
    assert any(marked) and not all(marked)


def test_shipped_text_gives_a_row_each(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    feeds = sample_feeds(tmp_path)
    assert len(feeds) == len(samples())
    check(feeds)


def test_training_text_gives_sentences_and_turns(tokenizer: Tokenizer, tmp_path: Path, data: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    feeds = training_feeds(data, tmp_path, rows=20)
    assert 40 <= len(feeds) <= 44
    check(feeds)
