"""What the turns of a stream have said: the context of those that come after them."""

from __future__ import annotations

LONGEST = 1 << 14  # characters of a turn that are kept; the model reads some 50 subwords of them
REVISABLE = 16  # turns back that a revision still finds the context of its time


class History:
    """The last final turns of a stream, by the places at which they first came.

    A turn that was once too far back to be remembered stays forgotten, even if it is revised: what a turn looks
    back on has no gaps.

    Args:
        context_turns: turns that give a later one context; 0 for none.
    """

    def __init__(self, context_turns: int) -> None:
        self._context_turns = context_turns
        self._said: dict[int, str] = {}
        self._forgotten = 0

    def before(self, place: int) -> str | None:
        """The context of a turn: the text of those before it, None if there are none."""
        earlier = sorted(known for known in self._said if known < place)[-self._context_turns :]
        return " ".join(self._said[known] for known in earlier) or None

    def add(self, place: int, text: str) -> None:
        """A final turn, or a revision of one, at a place from 1 on; it gives no context if it says nothing."""
        if not text.strip():
            self.remove(place)
        elif self._context_turns and place > self._forgotten:
            self._said[place] = text[-LONGEST:]
            for oldest in sorted(self._said)[: -(self._context_turns + REVISABLE)]:
                del self._said[oldest]
                self._forgotten = oldest

    def remove(self, place: int) -> None:
        """The turn was cancelled: it gives no context."""
        self._said.pop(place, None)
