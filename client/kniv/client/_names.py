"""The names that a stream has used, as the server remembers them: another server cannot know of them."""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 1 << 16  # as many as the server remembers


class Names:
    """Turns and documents that have ended.

    Of a document that ended before it was sent in full, what still comes is to be passed over.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._documents: OrderedDict[str, bool] = OrderedDict()

    def turn_ended(self, name: str, revision: int) -> None:
        """A turn ended with a revision."""
        self._turns[name] = max(self._turns.get(name, 0), revision)
        self._turns.move_to_end(name)
        if len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)

    def document_ended(self, name: str, *, whole: bool) -> None:
        """A document ended; ``whole`` if nothing more of it can come."""
        self._documents[name] = whole
        if len(self._documents) > REMEMBERED:
            self._documents.popitem(last=False)

    def turn_used(self, name: str, revision: int) -> bool:
        """Whether a turn of this or a later revision has ended."""
        return self._turns.get(name, -1) >= revision

    def turn_known(self, name: str) -> bool:
        """Whether a turn of the name has ended."""
        return name in self._turns

    def document_known(self, name: str) -> bool:
        """Whether a document of the name has ended."""
        return name in self._documents

    def passes_over(self, name: str) -> bool:
        """Whether a further chunk of a document means nothing."""
        return self._documents.get(name) is False
