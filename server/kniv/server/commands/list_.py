"""``kniv-serve list``: what is in a repository, told from its files without loading a graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from kniv.server.commands.options import DEFAULT_REPOSITORY, Repository, told
from kniv.server.errors import RepositoryError
from kniv.server.repository.published import FAMILY

if TYPE_CHECKING:
    from kniv.server.repository.layout import ModelFolder, VersionFiles

_SHOWN_COMMIT = 12


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
        Console(soft_wrap=True).print(_table(found))


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


def _table(models: list[dict[str, Any]]) -> Table:
    table = Table("model", "version", "served", "variants", "source", box=None, pad_edge=False, header_style="bold")
    for model in models:
        if model["problem"]:
            table.add_row(
                escape(model["name"]), "", "", "", escape(f"cannot be served: {model['problem']}"), style="red"
            )
        elif not model["versions"]:
            hint = f"kniv-serve pull {model['name']}" if model["name"] in FAMILY else "no version folder"
            table.add_row(escape(model["name"]), "-", "", "", hint)
        for version in model["versions"]:
            variants = ", ".join(f"{name} {decimal(size)}" for name, size in version["variants"].items())
            served = "yes" if version["served"] else ""
            table.add_row(
                escape(model["name"]), str(version["version"]), served, variants, escape(_told(version["source"]))
            )
    return table


def _told(source: dict[str, Any]) -> str:
    if "repository" in source:
        return f"{source['repository']}@{str(source.get('revision', ''))[:_SHOWN_COMMIT]}"
    return str(source.get("path", ""))
