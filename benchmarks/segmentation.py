"""Sentence and word F1, and speed, of segmentation candidates on UD English EWT's raw text.

`python benchmarks/segmentation.py DATA/ud-ewt-r2.14` prints a table and JSON. Candidates that are not installed are
left out: `pip install spacy syntok pysbd nltk nupunkt blingfire` has them all, no model is downloaded.

Paragraphs are given to the candidates one by one, as most of them know no blank lines; ours gets whole documents. A
span counts as found where both its ends are right, as in the CoNLL 2018 evaluation; multi-word tokens are expanded.
Speeds are words of the test split per second of processor time, in one thread.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kniv.server.pipeline.segment import sentences
from kniv.server.pipeline.words import words
from kniv.training.segmenter import RawDocument, Span, read_raw

Splitter = Callable[[str], list[Span]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with en_ewt-ud-{train,dev,test}.conllu.gz")
    folder = parser.parse_args().data
    train, dev, test = (read_raw(folder / f"en_ewt-ud-{split}.conllu.gz") for split in ("train", "dev", "test"))
    rows = []
    for name, splitter in ours_and_theirs(sentence_splitters(train)):
        scores = [sentence_score(documents, splitter, by_paragraph=name != "kniv") for documents in (dev, test)]
        rows.append(row("sentences", name, scores))
    for name, splitter in ours_and_theirs(word_splitters()):
        rows.append(row("words of gold sentences", name, [word_score(each, splitter, None) for each in (dev, test)]))
    rows.append(
        row("words of own sentences", "kniv", [word_score(each, our_words, our_sentences) for each in (dev, test)])
    )
    print("| task | candidate | dev P | dev R | dev F1 | test P | test R | test F1 | words/s |\n" + "|---" * 9 + "|")
    for each in rows:
        figures = " | ".join(f"{each[split][key]:.4f}" for split in ("dev", "test") for key in ("p", "r", "f1"))
        print(f"| {each['task']} | {each['candidate']} | {figures} | {each['words_per_second']:,} |")
    print(json.dumps(rows))


def row(task: str, candidate: str, scores: list[tuple[float, float, float, float]]) -> dict[str, object]:
    dev, test = ({"p": p, "r": r, "f1": f1} for p, r, f1, _ in scores)
    return {"task": task, "candidate": candidate, "dev": dev, "test": test, "words_per_second": int(scores[1][3])}


def sentence_score(
    documents: list[RawDocument], splitter: Splitter, by_paragraph: bool
) -> tuple[float, float, float, float]:
    gold, found = set(), set()
    seconds = 0.0
    for number, document in enumerate(documents):
        gold |= {(number, *span) for span in document.sentences}
        for offset, part in paragraphs(document.text) if by_paragraph else [(0, document.text)]:
            begin = time.process_time()
            spans = splitter(part)
            seconds += time.process_time() - begin
            trimmed = (trim(part, span) for span in spans)
            found |= {(number, start + offset, end + offset) for start, end in trimmed if start < end}
    return *prf(gold, found), sum(len(each) for d in documents for each in d.words) / seconds


def word_score(
    documents: list[RawDocument], splitter: Splitter, segmenter: Splitter | None
) -> tuple[float, float, float, float]:
    gold, found = set(), set()
    seconds = 0.0
    for number, document in enumerate(documents):
        gold |= {(number, *span) for sentence in document.words for span in sentence}
        for start, end in segmenter(document.text) if segmenter else document.sentences:
            begin = time.process_time()
            spans = splitter(document.text[start:end])
            seconds += time.process_time() - begin
            found |= {(number, start + a, start + b) for a, b in spans}
    return *prf(gold, found), len(gold) / seconds


def prf(gold: set[tuple[int, int, int]], found: set[tuple[int, int, int]]) -> tuple[float, float, float]:
    hits = len(gold & found)
    return hits / len(found), hits / len(gold), 2 * hits / (len(gold) + len(found))


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"(?:.|\n(?!\n))+", text):
        yield found.start(), found.group()


def trim(text: str, span: Span) -> Span:
    part = text[slice(*span)]
    start = span[0] + len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def our_sentences(text: str) -> list[Span]:
    return [(each.start, each.start + len(each.text)) for each in sentences(text)]


def our_words(text: str) -> list[Span]:
    return [(each.start, each.end) for each in words(text)]


def ours_and_theirs(candidates: dict[str, Callable[[], Splitter]]) -> Iterator[tuple[str, Splitter]]:
    for package, build in candidates.items():
        try:
            release = version(package.split()[0])
        except PackageNotFoundError:
            if package.split()[0] not in ("kniv", "baseline"):
                print(f"{package} is not installed", file=sys.stderr)
                continue
            release = ""
        yield package.replace(package.split()[0], f"{package.split()[0]} {release}".strip(), 1), build()


def sentence_splitters(train: list[RawDocument]) -> dict[str, Callable[[], Splitter]]:
    def spacy_rules() -> Splitter:
        import spacy

        pipeline = spacy.blank("en")
        pipeline.add_pipe("sentencizer")
        return lambda text: [(each.start_char, each.end_char) for each in pipeline(text).sents]

    def syntok() -> Splitter:
        from syntok.segmenter import analyze

        return lambda text: [
            (each[0].offset, each[-1].offset + len(each[-1].value)) for part in analyze(text) for each in part
        ]

    def punkt() -> Splitter:
        from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

        trainer = PunktTrainer()
        for document in train:
            trainer.train(document.text, finalize=False)
        trainer.finalize_training()
        tokenizer = PunktSentenceTokenizer(trainer.get_params())
        return lambda text: list(tokenizer.span_tokenize(text))

    def nupunkt() -> Splitter:
        from nupunkt import sentence_spans

        return sentence_spans

    def blingfire() -> Splitter:
        from blingfire import text_to_sentences_and_offsets

        return lambda text: text_to_sentences_and_offsets(text)[1]

    def pysbd() -> Splitter:
        from pysbd import Segmenter

        segmenter = Segmenter(language="en", clean=False, char_span=True)
        return lambda text: [(each.start, each.end) for each in segmenter.segment(text)]

    baseline = re.compile(r"\S.*?(?:[.?!]+[\"')\]]*(?=\s|$)|$)", re.DOTALL)
    return {
        "kniv": lambda: our_sentences,
        "baseline pattern": lambda: lambda text: [each.span() for each in baseline.finditer(text)],
        "spacy sentencizer": spacy_rules,
        "syntok": syntok,
        "nltk Punkt trained on EWT": punkt,
        "nupunkt": nupunkt,
        "blingfire": blingfire,
        "pysbd": pysbd,
    }


def word_splitters() -> dict[str, Callable[[], Splitter]]:
    def spacy_blank(more_infixes: bool) -> Splitter:
        import spacy
        from spacy.util import compile_infix_regex

        pipeline = spacy.blank("en")
        if more_infixes:
            infixes = [*pipeline.Defaults.infixes, r"(?<=[A-Za-z0-9])[-/](?=[A-Za-z0-9])"]
            pipeline.tokenizer.infix_finditer = compile_infix_regex(infixes).finditer
        return lambda text: [(each.idx, each.idx + len(each)) for each in pipeline.tokenizer(text) if not each.is_space]

    def syntok() -> Splitter:
        from syntok.tokenizer import Tokenizer

        tokenizer = Tokenizer(emit_hyphen_or_underscore_sep=True, replace_not_contraction=False)
        return lambda text: [(each.offset, each.offset + len(each.value)) for each in tokenizer.tokenize(text)]

    def treebank() -> Splitter:
        from nltk.tokenize import NLTKWordTokenizer

        return lambda text: list(NLTKWordTokenizer().span_tokenize(text))

    baseline = re.compile(r"\w+|[^\w\s]")
    return {
        "kniv": lambda: our_words,
        "baseline pattern": lambda: lambda text: [each.span() for each in baseline.finditer(text)],
        "spacy blank": lambda: spacy_blank(False),
        "spacy blank, all hyphens and slashes split": lambda: spacy_blank(True),
        "syntok": syntok,
        "nltk NLTKWordTokenizer": treebank,
    }


if __name__ == "__main__":
    main()
