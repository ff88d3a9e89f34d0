"""``kniv-serve list``: what is in a repository, told from its files without loading a graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.filesize import decimal

from kniv.server.commands.options import DEFAULT_REPOSITORY, Repository, told
from kniv.server.errors import RepositoryError
from kniv.server.repository.published import FAMILY

if TYPE_CHECKING:
    from kniv.server.repository.layout import ModelFolder, VersionFiles

_SHOWN_COMMIT = 12
_TITLES = ["MODEL", "VERSION", "SERVED", "VARIANTS", "SOURCE"]


def list_(
    model_repository: Repository = DEFAULT_REPOSITORY,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """List models, versions and variants, where they came from, and which the version policy serves."""
    with told():
        from kniv.server.repository.layout import models

        found = [_model(folder) for folder in models(model_repository)]
    if format_ == "json":
        print(json.dumps(found, indent=1))
    else:
        _print_table(found)


def _model(folder: ModelFolder) -> dict[str, Any]:
    from kniv.server.repository.config import load_config

    problem, served = folder.problem, []
    if not problem:
        try:
            policy = load_config(folder.path).version_policy
            served = policy.choose([files.version for files in folder.versions])
        except RepositoryError as error:
            problem = str(error)
    versions = [_version(files, files.version in served) for files in folder.versions]
    return {"name": folder.name, "problem": problem, "versions": versions}


def _version(files: VersionFiles, served: bool) -> dict[str, Any]:
    from kniv.server.repository.labels import read_object

    try:
        source = read_object(files.metadata).get("source")
    except RepositoryError:  # what is wrong with it is for check to tell
        source = None
    return {
        "version": files.version,
        "served": served,
        "variants": {variant: path.stat().st_size for variant, path in files.graphs.items()},
        "source": source if isinstance(source, dict) else {},
    }


def _print_table(models: list[dict[str, Any]]) -> None:
    rows = [_TITLES]
    for model in models:
        if model["problem"]:
            rows.append([model["name"], "", "", "", f"cannot be served: {model['problem']}"])
        elif not model["versions"]:
            hint = f"kniv-serve pull {model['name']}" if model["name"] in FAMILY else "no version folder"
            rows.append([model["name"], "", "", "", hint])
        for version in model["versions"]:
            variants = ", ".join(f"{name} {decimal(size)}" for name, size in version["variants"].items())
            served = "yes" if version["served"] else "no"
            rows.append([model["name"], str(version["version"]), served, variants, _told(version["source"])])
    # Names and sources come from files that anyone may have written: nothing of them may steer the terminal.
    rows = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _told(source: dict[str, Any]) -> str:
    if "repository" in source:
        return f"{source['repository']}@{str(source.get('revision', ''))[:_SHOWN_COMMIT]}"
    return str(source.get("path", ""))
