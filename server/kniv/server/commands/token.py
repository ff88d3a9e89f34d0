"""``kniv-serve token``: make a bearer token, and its line for the callers' file."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from kniv.server.security.caller import Grant


def token(
    name: Annotated[str, typer.Argument(help="Whose it is to be: letters, digits, - and _.")],
    grant: Annotated[
        list[Grant] | None, typer.Option("--grant", help="What it may do, annotate by default; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=0, max=36_500, help="Days until it expires; 0 for never.")] = 0,
) -> None:
    """Make a token: its line for --callers-file goes to standard output; itself, this once, to standard error."""
    from kniv.server.security.roster import new_token

    if not re.fullmatch("[A-Za-z0-9_-]{1,128}", name):
        raise typer.BadParameter("must be 1 to 128 letters, digits, - and _", param_hint="NAME")
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    made, line = new_token(name, list(dict.fromkeys(grant or [Grant.ANNOTATE])), expires)
    print(made, file=sys.stderr)
    print(line)
