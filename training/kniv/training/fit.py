"""The multi-task trainer."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from kniv.server.repository.labels import Labels
from kniv.training.augment import Augmentation, CaseFolder, augment
from kniv.training.cascade import Cascade
from kniv.training.checkpoint import save_model, write_tensors
from kniv.training.corpus import Corpus, Mixture
from kniv.training.losses import LossWeights, losses
from kniv.training.rows import Row, by_tokens, collate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a cascade is fitted.

    Attributes:
        rounds: passes over the mixture; the learning rates fall linearly to zero over all of them.
        encoder_lr, head_lr: peak learning rates (AdamW) of the encoder and of everything else.
        warmup: share of the first round over which they rise from zero.
        weight_decay: decoupled weight decay, on matrices only.
        tokens: padded subwords a batch.
        clip: largest gradient norm.
        save_every: steps between checkpoints.
        bf16: run matrix products in bfloat16 (torch.autocast), unless the CPU is one that PyTorch has no such LSTM for.
    """

    rounds: int = 7
    encoder_lr: float = 1.2e-4
    head_lr: float = 1.2e-3
    warmup: float = 0.3
    weight_decay: float = 0.01
    tokens: int = 2048
    clip: float = 1.0
    save_every: int = 500
    seed: int = 17
    bf16: bool = True
    mixture: Mixture = field(default_factory=Mixture)
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)


# A short second run for the open-chat dialog acts: more of them, more noise, and enough of the rest to forget nothing.
REFINE = FitConfig(
    rounds=1,
    encoder_lr=5e-5,
    head_lr=5e-4,
    mixture=Mixture(verbs=0.4, other_predicates=0.05, task_turns=3000, open_repeats=2, written_repeats=2),
    augmentation=Augmentation(masked=0.15),
)

# What a fitted cascade takes to learn relative positions in place of its absolute ones.
RELATIVE = FitConfig(
    rounds=1,
    encoder_lr=1.5e-4,
    head_lr=5e-4,
    warmup=0.1,
    save_every=100,
    mixture=Mixture(verbs=0.4, other_predicates=0.05, task_turns=3000, open_repeats=1),
)


def fit(
    model: Cascade,
    corpus: Corpus,
    labels: Labels,
    tokenizer: Tokenizer,
    folder: Path,
    config: FitConfig,
    device: str = "cpu",
    judge: Callable[[Cascade], dict[str, float]] | None = None,
) -> None:
    """Fit ``model``, writing checkpoints and ``metrics.jsonl`` to ``folder``; resumes one found there.

    Every step seeds its own randomness from (seed, step), so that a resumed run sees what an
    uninterrupted one would have seen.

    Args:
        model: the cascade to fit, in place.
        corpus: training rows.
        labels, tokenizer: written beside the weights.
        folder: of this run alone.
        config: how to fit.
        device: where to.
        judge: figures of the model in evaluation mode, noted in ``metrics.jsonl`` after every round.

    Raises:
        ValueError: the folder holds a run with another configuration.
        FloatingPointError: the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remember(folder / "fit.json", config)
    model.to(device).train()
    optimizer = torch.optim.AdamW(_groups(model, config), fused=True)
    step = _resume(folder, model, optimizer)
    plan = [list(_round(corpus, config, number)) for number in range(config.rounds)]
    ends = list(accumulate(map(len, plan)))
    total = ends[-1]
    warm = max(1, int(config.warmup * len(plan[0])))
    half = config.bf16 and has_bf16(device)
    folder_of_case = CaseFolder.of(tokenizer)
    running: dict[str, float] = {}
    started = time.monotonic()
    with _progress() as bar, (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        task = bar.add_task("fit", total=total, completed=step)
        for rows in _after(plan, step):
            _seed(config.seed, step)
            rate = min((step + 1) / warm, (total - step) / max(1, total - warm))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            batch = augment(collate(rows), folder_of_case, config.augmentation).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=half):
                parts = losses(model, batch, config.weights)
            loss = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {step}: lower the learning rates")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            for name, part in parts.items():
                running[name] = 0.98 * running.get(name, part.item()) + 0.02 * part.item()
            bar.update(task, advance=1, description=" ".join(f"{k} {v:.3f}" for k, v in sorted(running.items())))
            if step % config.save_every == 0 or step == total:
                seconds = time.monotonic() - started
                metrics.write(json.dumps({"step": step, "of": total, "seconds": seconds, **running}) + "\n")
                metrics.flush()
                save_model(folder, model, labels, tokenizer)
                write_tensors(folder / "optimizer.pt", {"step": step, "state": optimizer.state_dict()})
            if judge is not None and step in ends:
                record = {"step": step, "of": total, "round": ends.index(step) + 1, "dev": judge(model.eval())}
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
                model.train()


def has_bf16(device: str) -> bool:
    """Whether PyTorch runs LSTMs in bfloat16 there: of x86 CPUs those with AVX-512."""
    supported: bool = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _remember(path: Path, config: FitConfig) -> None:
    """Note the configuration, or check that it is the one that the folder's run was begun with."""
    text = json.dumps(asdict(config), indent=1) + "\n"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(text):
        raise ValueError(f"{path} is another configuration's: resume with that one, or choose another folder")
    path.write_text(text, encoding="utf-8")


def _round(corpus: Corpus, config: FitConfig, number: int) -> Iterator[list[Row]]:
    """The shuffled batches of one round, the same at every call."""
    random = np.random.default_rng((config.seed, number))
    batches = [b for group in corpus.round(config.mixture, random) for b in by_tokens(group, config.tokens, random)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def _after(plan: list[list[list[Row]]], step: int) -> Iterator[list[Row]]:
    flat = (rows for batches in plan for rows in batches)
    return (rows for index, rows in enumerate(flat) if index >= step)


def _groups(model: Cascade, config: FitConfig) -> list[dict[str, Any]]:
    """Parameter groups: encoder and rest, matrices with weight decay and the others without."""
    groups = []
    for in_encoder, peak in ((True, config.encoder_lr), (False, config.head_lr)):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("encoder.") == in_encoder and (parameter.ndim > 1) == decayed
            ]
            groups.append(
                {"params": chosen, "peak": peak, "lr": peak, "weight_decay": config.weight_decay if decayed else 0.0}
            )
    return groups


def _resume(folder: Path, model: Cascade, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint, if there is one; returns the number of steps done."""
    if not (folder / "optimizer.pt").exists():
        return 0
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True, map_location="cpu"))
    saved = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
    optimizer.load_state_dict(saved["state"])
    log.info("resuming %s at step %d", folder, saved["step"])
    return int(saved["step"])


def _seed(seed: int, step: int) -> None:
    torch.manual_seed(seed * 1_000_003 + step)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
