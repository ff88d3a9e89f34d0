"""The ``kniv-serve`` command."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import typer
from pydantic import ValidationError

from kniv.server.commands.check import check
from kniv.server.commands.import_ import import_
from kniv.server.commands.list_ import list_
from kniv.server.commands.optimise import optimise
from kniv.server.commands.pull import pull
from kniv.server.commands.token import token
from kniv.server.errors import HungError, ServeError
from kniv.server.security.redact import keep_texts_out_of_logs
from kniv.server.settings import PREFIX, load_settings
from kniv.server.telemetry import logs

_HUNG = 70  # EX_SOFTWARE of sysexits.h

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Server of the kniv cascade models.")
app.command("pull")(pull)
app.command("import")(import_)
app.command("optimise")(optimise)
app.command("check")(check)
app.command("list")(list_)
app.command("token")(token)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def serve(context: typer.Context) -> None:
    """Serve the models of a repository over gRPC; --help lists all settings."""
    try:
        settings = load_settings(context.args)
    except ValidationError as error:
        for problem in error.errors():
            name = "-".join(str(part) for part in problem["loc"]).replace("_", "-")
            print(f"kniv-serve: --{name} ({PREFIX}{name.replace('-', '_').upper()}): {problem['msg']}", file=sys.stderr)
        raise typer.Exit(2) from error
    except ValueError as error:
        print(f"kniv-serve: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    logs.configure(settings.log_level, settings.log_format)
    if not settings.log_texts:
        keep_texts_out_of_logs()
    from kniv.server.app import serve as run  # late: --help need not wait for ONNX Runtime

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        with asyncio.Runner() as runner:
            try:
                runner.run(run(settings, ready=lambda port: print(f"ready on {host}:{port}", flush=True)))
                for number in (signal.SIGTERM, signal.SIGINT):  # there is nothing left to stop
                    runner.get_loop().remove_signal_handler(number)
                    signal.signal(number, signal.SIG_IGN)
            except HungError as error:
                print(f"kniv-serve: {error}", file=sys.stderr, flush=True)
                logging.shutdown()
                os._exit(_HUNG)  # the loop, and then the interpreter, would wait for threads that may hang as well
    except (ServeError, OSError) as error:
        print(f"kniv-serve: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
