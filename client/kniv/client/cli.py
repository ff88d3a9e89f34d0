"""The command ``kniv``.

It ends with 0 if all went well, 1 if the server failed or cannot be reached, 2 if the command line or the input is
wrong, 130 if interrupted, and 141 if whoever reads its output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from kniv.client import _annotate_command, _chat_command, _health_command, _models_command
from kniv.client._annotation import Task
from kniv.client._connection import add_connection_options
from kniv.client._errors import InvalidRequestError, KnivError
from kniv.client._terminal import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
        return status
    except (InputError, InvalidRequestError) as error:
        return _fail(str(error), 2)
    except KnivError as error:
        return _fail(f"{error.code}: {error}", 1)
    except BrokenPipeError:
        # Python flushes stdout once more at exit; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _fail(message: str, status: int) -> int:
    print(f"kniv: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kniv", description="Annotate English text with a kniv server.")
    parser.add_argument("--version", action="version", version=version("kniv-client"))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    server = argparse.ArgumentParser(add_help=False)
    add_connection_options(server)
    model = argparse.ArgumentParser(add_help=False, parents=[server])
    model.add_argument("--tasks", type=_tasks, help=f"comma-separated, of {','.join(Task)} (default: all)")
    model.add_argument("--model", help="model name (default: the server's)")
    model.add_argument("--version", type=int, metavar="N", help="version number (default: the newest)")
    model.add_argument("--variant", help="for example int8 (default: the version's)")

    annotate = commands.add_parser("annotate", parents=[model], help="annotate a file")
    annotate.add_argument("file", metavar="FILE", help="UTF-8 text; - for standard input")
    annotate.add_argument("--format", choices=["table", "jsonl", "conllu"], default="table", help="(default: table)")
    annotate.set_defaults(run=_annotate_command.run)

    chat = commands.add_parser("chat", parents=[model], help="annotate turns as you type them")
    chat.add_argument("--speaker", default="user", help="who types (default: user)")
    chat.set_defaults(run=_chat_command.run)

    models = commands.add_parser("models", parents=[server], help="list the server's models")
    models.set_defaults(run=_models_command.run)

    health = commands.add_parser("health", parents=[server], help="tell by the exit status whether the server serves")
    health.add_argument("--service", default="", help="gRPC service or model (default: the whole server)")
    health.set_defaults(run=_health_command.run)
    return parser


def _tasks(names: str) -> list[Task]:
    try:
        return [Task(name.strip()) for name in names.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; choose from {', '.join(Task)}") from None


if __name__ == "__main__":
    sys.exit(main())
