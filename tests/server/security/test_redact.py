from __future__ import annotations

import asyncio
import gc
import io
import logging
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_of_a_task_or_callback_is_told_but_its_end(debug: bool) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Redaction())
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)

    async def fail(text: str) -> None:
        raise ValueError(text)

    def give_up(future: asyncio.Future[str]) -> None:
        raise KeyError(future.result())

    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(CANARY)
        answer.add_done_callback(give_up)
        asyncio.create_task(fail(CANARY), name=CANARY)  # noqa: RUF006  # nobody hears of it
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    try:
        asyncio.run(main(), debug=debug)
        gc.collect()
    finally:
        logger.removeHandler(handler)
    said = stream.getvalue()
    assert "Task exception was never retrieved" in said and "Exception in callback" in said
    assert "builtins.ValueError" in said and "builtins.KeyError" in said
    assert CANARY not in said
