"""Training the weights of the sentence segmenter (`kniv.server.pipeline.boundary`) on a treebank's raw text.

`python -m kniv.training.segmenter TRAIN.conllu.gz DEV.conllu.gz dialog_acts_train.jsonl.gz boundary.json`

The treebank has lost its line breaks, so in it sentences end after "Hi John," and "Regards,". Chat turns, whose
sentences do end in full stops, question and exclamation marks, teach that few do: "Yes, That works" is one sentence.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from kniv.server.pipeline.boundary import AHEAD, EDGE, Context, features, look, possible
from kniv.server.pipeline.chunks import Chunk, Chunker, Gap
from kniv.training.data.treebank import open_text

Span = tuple[int, int]

_FINAL = re.compile(r"^s=.*[.?!]|^s=_smile")


@dataclass(slots=True)
class RawDocument:
    """A document's raw text, with its sentences and their words as half-open spans of code points in it."""

    text: str = ""
    sentences: list[Span] = field(default_factory=list)
    words: list[list[Span]] = field(default_factory=list)


def read_raw(path: Path) -> list[RawDocument]:
    """Rebuild the raw text of a CoNLL-U file with `newdoc` and `newpar` comments; a blank line parts paragraphs.

    Words are syntactic words.

    Raises:
        ValueError: the parts of a multi-word token do not spell it, so that they have no spans.
    """
    documents: list[RawDocument] = []
    rows: list[list[str]] = []
    new_document = new_paragraph = False
    for line in map(str.rstrip, open_text(path)):
        if line.startswith("#"):
            new_document |= line.startswith("# newdoc")
            new_paragraph |= line.startswith("# newpar")
        elif line:
            rows.append(line.split("\t"))
        elif rows:
            if new_document or not documents:
                documents.append(RawDocument())
            elif new_paragraph:
                documents[-1].text = documents[-1].text.rstrip() + "\n\n"
            _append(documents[-1], rows)
            rows = []
            new_document = new_paragraph = False
    return documents


def _append(document: RawDocument, rows: list[list[str]]) -> None:
    begin = len(document.text)
    words: list[Span] = []
    end = begin
    inside = 0  # words left of a multi-word token
    for number, form, *_, misc in rows:
        if "." in number:
            continue
        if "-" in number:
            first, final = map(int, number.split("-"))
            inside = final - first + 1
            parts = [row[1] for row in rows if row[0].isdigit() and first <= int(row[0]) <= final]
            if "".join(parts) != form:
                raise ValueError(f"multi-word token {form!r} is not spelt by {parts}")
            start = len(document.text)
            for part in parts:
                words.append((start, start + len(part)))
                start += len(part)
        elif inside:
            inside -= 1
            continue
        else:
            words.append((len(document.text), len(document.text) + len(form)))
        document.text += form
        end = len(document.text)
        if "SpaceAfter=No" not in misc.split("|"):
            document.text += " "
    document.sentences.append((begin, end))
    document.words.append(words)


Example = tuple[list[str], bool]


def examples(document: RawDocument) -> Iterator[Example]:
    """Features of each gap in a document, and whether a sentence ends there; contexts are the gold ones."""
    starts = {start for start, _ in document.sentences}
    paragraph: list[Chunk] = []
    for chunk in Chunker().feed(document.text, last=True):
        if chunk is not None:
            paragraph.append(chunk)
            continue
        seen = [look(each.text) for each in paragraph]
        context = Context()
        for place, right in enumerate(paragraph[1:]):
            context = context.add(seen[place])
            before = seen[place - 1] if place else EDGE
            gap = "" if right.gap is Gap.TOUCH else " "
            if right.gap is not Gap.NONE and possible(before, seen[place], seen[place + 1]):
                names = features(context, before, seen[place], tuple(seen[place + 1 : place + 1 + AHEAD]), gap)
                yield names, right.start in starts
            if right.start in starts:
                context = Context()
        paragraph = []


def no_ends(turns: Path, limit: int) -> Iterator[Example]:
    """Gaps without a sentence's final punctuation in the first texts of a JSON-lines file of chat turns: no ends."""
    for line in islice(open_text(turns), limit):
        text = json.loads(line)["text"]
        for names, _ in examples(RawDocument(text, [(0, len(text))])):
            if not _FINAL.search(names[0]):
                yield names, False


def fit(data: list[Example], penalty: float, rarest: int) -> dict[str, float]:
    """Weights of an L2-regularised logistic regression; features seen fewer than `rarest` times have none."""
    counts = Counter(name for names, _ in data for name in names)
    index = {name: place for place, name in enumerate((n for n, c in counts.items() if c >= rarest), start=1)}
    flat: list[int] = []
    offsets: list[int] = []
    for names, _ in data:
        offsets.append(len(flat))
        flat.append(0)  # the bias
        flat.extend(index[name] for name in names if name in index)
    inputs, bags = torch.tensor(flat), torch.tensor(offsets)
    targets = torch.tensor([float(ends) for _, ends in data])
    weights = torch.zeros(len(index) + 1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=150, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scores = torch.nn.functional.embedding_bag(inputs, weights, bags, mode="sum").squeeze(1)
        missed = torch.nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
        total = missed + penalty * weights.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    values = weights.detach().squeeze(1).tolist()
    return {"": values[0], **{name: values[place] for name, place in index.items()}}


def quality(weights: dict[str, float], data: list[Example]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the boundaries found with gold contexts."""
    hits = found = wanted = 0
    for names, ends in data:
        guess = sum(weights.get(name, 0.0) for name in names) + weights[""] > 0
        hits += guess and ends
        found += guess
        wanted += ends
    return hits / max(found, 1), hits / max(wanted, 1), 2 * hits / max(found + wanted, 1)


def pruned(weights: dict[str, float], smallest: float) -> dict[str, float]:
    """Weights of at least a size, rounded, largest first."""
    kept = {name: round(value, 2) for name, value in weights.items() if abs(value) >= smallest or not name}
    return dict(sorted(kept.items(), key=lambda item: (-math.fabs(item[1]), item[0])))


def main() -> None:
    """Train, say how good it is on the held-out file, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("turns", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--limit", type=int, default=10_000, help="chat turns used")
    parser.add_argument("--penalty", type=float, default=0.1)
    parser.add_argument("--rarest", type=int, default=2)
    parser.add_argument("--smallest", type=float, default=0.16)
    options = parser.parse_args()
    data = [example for document in read_raw(options.train) for example in examples(document)]
    data += no_ends(options.turns, options.limit)
    held_out = [example for document in read_raw(options.dev) for example in examples(document)]
    weights = pruned(fit(data, options.penalty, options.rarest), options.smallest)
    print(
        f"{len(data)} gaps, {len(weights)} weights; dev P {{:.4f}} R {{:.4f}} F1 {{:.4f}}".format(
            *quality(weights, held_out)
        )
    )
    options.weights.write_text(json.dumps(weights, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
