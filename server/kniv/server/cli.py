"""The ``kniv-serve`` command."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

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
from kniv.server.settings import PREFIX, load_settings, log_format_of
from kniv.server.telemetry import logs

_HUNG = 70  # EX_SOFTWARE of sysexits.h

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold tokens
    rich_markup_mode=None,  # it would take the name of an extra, [training], for markup
    help="Server of the kniv cascade models.",
)
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
    except ValueError as error:  # pydantic's is one, too
        style = log_format_of(context.args)
        logs.configure("critical", style)
        for problem in _problems(error):
            logs.last_line(problem, style)
        raise typer.Exit(2) from error
    logs.configure(settings.log_level, settings.log_format)
    if not settings.log_texts:
        keep_texts_out_of_logs()
    from kniv.server.app import serve as run  # late: --help need not wait for ONNX Runtime

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            try:
                ended = runner.run(run(settings, ready=lambda port: print(f"ready on {host}:{port}", flush=True)))
                for number in (signal.SIGTERM, signal.SIGINT):  # there is nothing left to stop
                    runner.get_loop().remove_signal_handler(number)
                    signal.signal(number, signal.SIG_IGN)
            except HungError as error:
                logs.last_line(error, settings.log_format)
                _leave(_HUNG)
            if not ended:
                _leave(0)
    except (ServeError, OSError) as error:
        logs.last_line(error, settings.log_format)
        raise typer.Exit(1) from error


def _problems(error: ValueError) -> list[str]:
    """What is wrong with the settings, one line each."""
    if not isinstance(error, ValidationError):
        return [str(error)]
    names = [("-".join(map(str, one["loc"])).replace("_", "-"), one["msg"]) for one in error.errors()]
    return [f"--{name} ({PREFIX}{name.replace('-', '_').upper()}): {problem}" for name, problem in names]


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the event loop: uvloop's, which spends less on each message; asyncio's own where there is none of it."""
    if sys.platform == "win32":
        return None
    import uvloop  # late: --help need not wait for it

    return uvloop.new_event_loop


def _leave(status: int) -> NoReturn:
    """End at once: the loop, and then the interpreter, would wait for threads that are still at work."""
    sys.stdout.flush()
    logging.shutdown()
    os._exit(status)
