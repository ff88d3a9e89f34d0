from __future__ import annotations

import io
import logging
from pathlib import Path

from kniv.server.errors import RepositoryError
from kniv.server.security.redact import Redaction

CANARY = "the customer's own words"


def logged(error: BaseException) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Redaction())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise error
    except BaseException:
        logger.exception("a sentence could not be annotated")
    return stream.getvalue()


def nested() -> Exception:
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(f"bad: {CANARY}") from error
    except ValueError as error:
        return ExceptionGroup(f"group {CANARY}", [error, RuntimeError(CANARY)])


def test_exceptions_are_told_by_type_and_place_alone() -> None:
    said = logged(nested())
    assert CANARY not in said
    for kind in ("ExceptionGroup", "ValueError", "KeyError", "RuntimeError"):
        assert f"builtins.{kind}" in said
    assert "test_redact.py" in said and "in nested" in said


def test_a_chain_without_end_is_cut() -> None:
    first, second = ValueError(CANARY), ValueError(CANARY)
    first.__cause__, second.__cause__ = second, first
    assert logged(first).count("builtins.ValueError") == 5


def test_what_speaks_of_files_is_told_in_full() -> None:
    assert "labels.json: is missing" in logged(RepositoryError(Path("labels.json"), "is missing"))
    assert "No such file" in logged(FileNotFoundError(2, "No such file or directory"))
