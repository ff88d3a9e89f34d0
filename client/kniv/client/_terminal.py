"""Input and output of the command line."""

from __future__ import annotations

import argparse
import io
import os
import sys

from kniv.client._annotation import Sentence
from kniv.client._options import Options
from kniv.client._render import render


class InputError(Exception):
    """The input cannot be read."""


def model_options(arguments: argparse.Namespace) -> Options:
    """The options that commands share."""
    return Options(model=arguments.model, version=arguments.version, variant=arguments.variant, tasks=arguments.tasks)


def draw(sentence: Sentence) -> str:
    """A sentence drawn as well as standard output can show it."""
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    try:
        "─╭╫".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return render(sentence, color=color, ascii_only=True)
    return render(sentence, color=color)


def write_data_as_utf8() -> None:
    """Make standard output fit for formats that are UTF-8 by definition, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def write_what_can_be_shown() -> None:
    """Make standard output show replacements for signs that the locale lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
