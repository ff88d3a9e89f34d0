"""``kniv health``: whether the server serves, for probes of containers and supervisors."""

from __future__ import annotations

import argparse

from kniv.client._connection import connect
from kniv.client._errors import NotReadyError

_TIMEOUT_S = 2.0


def run(arguments: argparse.Namespace) -> int:
    """Ask the server's health check; an error unless it serves."""
    with connect(arguments) as client:
        if not client._is_serving(arguments.service, _TIMEOUT_S):
            raise NotReadyError(f"{arguments.service or 'the server'} is not serving")
    return 0
