from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from kniv.server.repository.labels import Labels
from kniv.training import fit as fitting
from kniv.training.cascade import Cascade
from kniv.training.checkpoint import load_model
from kniv.training.corpus import Corpus, Mixture
from kniv.training.fit import FitConfig, fit
from kniv.training.rows import Row, RowEncoder

from .conftest import tiny_cascade

CONFIG = FitConfig(rounds=2, tokens=40, save_every=3, bf16=False, mixture=Mixture(1.0, 4, 1))


@pytest.fixture
def corpus(encoder: RowEncoder) -> Corpus:
    def row(words: list[str], predicate: int | None = None) -> Row:
        layers = {"pos": [0] * len(words), "ner": [0] * len(words), "deprel": [0] + [2] * (len(words) - 1)}
        if predicate is not None:
            layers["srl"] = [2] * len(words)
        made = encoder.labelled(words, layers, [0] * len(words), predicate)
        assert made is not None
        return made

    turns = [Row(encoder.pair("a", text), np.zeros(0, dtype=np.int64), act=place) for place, text in enumerate("abcd")]
    return Corpus(
        trees=[row(["Ann", "b", "."]), row(["c", "d"])],
        verbs=[row(["Ann", "b", "."], 1)],
        other_predicates=[row(["e", "f"], 0)],
        task_turns=turns,
        open_turns=turns[:2],
        written_turns=turns[2:],
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def test_a_run_cut_short_ends_as_one_that_was_not(
    corpus: Corpus, labels: Labels, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path / "whole", CONFIG)

    class CutShortError(Exception):
        pass

    real, calls = fitting.losses, 0

    def failing(*arguments: object) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise CutShortError
        return real(*arguments)

    monkeypatch.setattr(fitting, "losses", failing)
    with pytest.raises(CutShortError):
        fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path / "cut", CONFIG)
    monkeypatch.setattr(fitting, "losses", real)
    fit(tiny_cascade(seed=9), corpus, labels, tokenizer, tmp_path / "cut", CONFIG)
    for name, values in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "cut")[name], values, msg=name)


def test_judging_after_every_round_changes_no_step(
    corpus: Corpus, labels: Labels, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    modes = []

    def judge(model: Cascade) -> dict[str, float]:
        modes.append(model.training)
        torch.rand(3)
        return {"pos": 0.5}

    fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path / "plain", CONFIG)
    fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path / "judged", CONFIG, judge=judge)
    assert modes == [False, False]
    for name, values in weights(tmp_path / "plain").items():
        torch.testing.assert_close(weights(tmp_path / "judged")[name], values, rtol=0, atol=0, msg=name)
    records = [json.loads(line) for line in (tmp_path / "judged" / "metrics.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records if "dev" in record] == [1, 2]


def test_another_configuration_is_refused(corpus: Corpus, labels: Labels, tokenizer: Tokenizer, tmp_path: Path) -> None:
    fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path, CONFIG)
    with pytest.raises(ValueError, match="another configuration"):
        fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path, FitConfig(rounds=3))


def test_checkpoint_gives_back_the_same_model(
    corpus: Corpus, labels: Labels, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = tiny_cascade()
    fit(model, corpus, labels, tokenizer, tmp_path, CONFIG)
    loaded, got_labels, got_tokenizer = load_model(tmp_path)
    assert got_labels == labels
    assert got_tokenizer.get_vocab() == tokenizer.get_vocab()
    ids, mask = torch.randint(5, 40, (2, 6)), torch.ones(2, 6, dtype=torch.long)
    with torch.no_grad():
        for got, want in zip(
            loaded.eval()(ids, mask, torch.tensor([1, 2])), model.eval()(ids, mask, torch.tensor([1, 2])), strict=True
        ):
            torch.testing.assert_close(got, want)


def test_half_precision_is_left_to_machines_that_have_it(
    corpus: Corpus, labels: Labels, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The default must not fail on a CPU without it, for which PyTorch has no such LSTM."""
    fit(tiny_cascade(), corpus, labels, tokenizer, tmp_path, replace(CONFIG, rounds=1, bf16=True))
    assert (tmp_path / "model.pt").is_file()
