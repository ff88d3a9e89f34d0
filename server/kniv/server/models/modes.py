"""Who decides which models are loaded."""

from __future__ import annotations

from enum import StrEnum


class ControlMode(StrEnum):
    """Who decides what is loaded, in Triton's words.

    NONE: everything at the start, nothing later. POLL: the repository, looked at now and then. EXPLICIT: callers.
    """

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"
