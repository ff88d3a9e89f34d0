"""The turns that later ones look back on, as the server remembers them: sent anew over another connection."""

from __future__ import annotations

from collections import OrderedDict

from kniv.client._names import REMEMBERED
from kniv.client._requests import Request
from kniv.v1 import annotation_service_pb2

# The server remembers as many turns beyond those asked for, so that a revision still finds the context of its time,
# and as much of each; see docs/protocol.md.
_REVISABLE = 16
_LONGEST = 1 << 14
_MOST_BLANK = 64  # turns that gave no context and still have their place, should a revision come

Turn = annotation_service_pb2.Turn


class Context:
    """The last turns that have ended, in the order in which they first came.

    ``context_turns`` is the number that a turn looks back on; with 0 nothing is kept. A turn that was once too far back
    stays forgotten, even if it is revised.
    """

    def __init__(self, context_turns: int) -> None:
        self._most = context_turns + _REVISABLE if context_turns else 0
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._too_far_back: OrderedDict[str, None] = OrderedDict()

    def learn(self, turn: Turn) -> None:
        """A turn, with what it says unless it is partial."""
        if not self._most or turn.turn_id in self._too_far_back:
            return
        known = self._turns.setdefault(turn.turn_id, Turn(turn_id=turn.turn_id, context_only=True))
        known.revision = max(known.revision, turn.revision)
        if not turn.is_partial:
            known.text = turn.text[-_LONGEST:]
        self._bound()

    def forget(self, turn_id: str) -> None:
        """A turn was cancelled before it had ended: it gives no context."""
        if turn_id in self._turns:
            self._turns[turn_id].text = ""
            self._bound()

    def requests(self) -> list[Request]:
        """What another server needs to be told first."""
        return [Request(turn=turn) for turn in self._turns.values()]

    def reduced(self, turn: Turn) -> Request | None:
        """A turn that has ended, as far as it still matters; None if it does not."""
        if not self._most:
            return None
        text = "" if turn.is_partial else turn.text[-_LONGEST:]
        return Request(
            turn=Turn(
                turn_id=turn.turn_id,
                text=text,
                is_partial=turn.is_partial,
                revision=turn.revision,
                context_only=True,
            )
        )

    def _bound(self) -> None:
        blank = [name for name, turn in self._turns.items() if not turn.text.strip()]
        for name in blank[:-_MOST_BLANK]:
            self._leave_behind(name)
        spoken = [name for name, turn in self._turns.items() if turn.text.strip()]
        if len(spoken) > self._most:
            newest = spoken[-self._most - 1]
            while newest in self._turns:  # with those before it, so that there is no gap
                self._leave_behind(next(iter(self._turns)))

    def _leave_behind(self, name: str) -> None:
        del self._turns[name]
        self._too_far_back[name] = None
        if len(self._too_far_back) > REMEMBERED:
            self._too_far_back.popitem(last=False)
