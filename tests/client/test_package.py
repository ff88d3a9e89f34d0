"""What the package shows, and what it needs."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grpc
import pytest

import kniv.client
from kniv.client import AsyncClient, AsyncStream, Client, KnivError, Stream, _errors

CLIENT = Path(__file__).parents[2] / "client"
NEEDS = {"grpcio", "protobuf"}


def names(requirements):
    return {re.match(r"[\w-]+", requirement).group() for requirement in requirements}


def test_public_names_are_those_in_all():
    shown = {
        name for name, value in vars(kniv.client).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert shown == set(kniv.client.__all__)
    assert kniv.client.__all__ == sorted(kniv.client.__all__)


def test_every_public_name_has_a_docstring():
    for name in kniv.client.__all__:
        value = getattr(kniv.client, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name


def test_distribution_needs_grpcio_and_protobuf_only():
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert names(project["dependencies"]) == NEEDS
    assert names(importlib.metadata.requires("kniv-client")) == NEEDS


def test_importing_brings_in_nothing_else():
    # grpcio brings in of its own accord whatever else of its family is installed, so that it comes first.
    code = "import sys, grpc.aio; before = set(sys.modules); import kniv.client.cli; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    known = r"grpc\.|google$|google\.(protobuf|_upb)\b|kniv$|kniv\.(client|v1)\b"
    assert {name for name in brought if not re.match(known, name)} == set()


@pytest.mark.parametrize(("threads", "tasks"), [(Client, AsyncClient), (Stream, AsyncStream)])
def test_both_clients_have_the_same_methods(threads, tasks):
    def methods(kind):
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(value) for name, value in found if not name.startswith("_")}

    left, right = methods(threads), methods(tasks)
    assert left.keys() == right.keys()
    for name in left.keys() - {"stream"}:
        mine, others = left[name].parameters, right[name].parameters
        assert list(mine) == list(others), name
        assert [p.default for p in mine.values()] == [p.default for p in others.values()], name
        assert [p.kind for p in mine.values()] == [p.kind for p in others.values()], name


def test_the_drawn_tree_of_errors_is_the_real_one():
    drawn = dict(re.findall(r"[├└]── (\w+)\s+([A-Z_]+(?:, [A-Z_]+)*)?", _errors.__doc__))
    kinds = {name: kind for name, kind in vars(kniv.client).items() if inspect.isclass(kind)}
    real = {name for name, kind in kinds.items() if issubclass(kind, KnivError) and kind is not KnivError}
    assert drawn.keys() == real
    known = {code.name for code in grpc.StatusCode}
    for name, codes in drawn.items():
        for code in filter(None, codes.split(", ")):
            assert code in known
            assert type(_errors._make(code, "", _errors.status_pb2.Status())).__name__ == name
