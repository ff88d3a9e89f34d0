"""The texts of one AnnotateText call: annotated side by side, each one's error its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from kniv.server.aside import aside
from kniv.server.errors import DeadlineError, InferenceError, OverloadedError, ServeError
from kniv.server.models.version import Lease, trail_on
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Sentence, sentences
from kniv.server.pipeline.types import Timings
from kniv.server.scheduling.trail import Kind, Outcome, following
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services import convert
from kniv.server.services.offsets import Ruler, to_code_points
from kniv.server.services.status import item_status
from kniv.server.together import together
from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls

log = logging.getLogger(__name__)

_SHORT = 4096  # characters up to which segmenting is not worth a thread


@dataclass(frozen=True, slots=True)
class Texts:
    """What all texts of a call share.

    Attributes:
        options: the call's.
        lease: what annotates them.
        urgency: how their rows stand among others.
        share: the call's sentences in flight.
        most: of them.
    """

    options: convert.Options
    lease: Lease
    urgency: Urgency
    share: asyncio.Semaphore
    most: int

    def check(self, messages: Sequence[calls.TextInput]) -> None:
        """Refuse the call before any of its texts is looked into, if even its first row would be refused now.

        Raises:
            OverloadedError, DeadlineError: of the call.
        """
        if all(not message.text or message.text.isspace() for message in messages):
            return  # nothing is to be run
        try:
            self.lease.check(self.urgency)
        except ServeError as error:
            for _ in messages:
                trail_on(self.lease, Kind.TEXT).ended(Outcome.FAILED, error)
            raise

    async def answer(self, message: calls.TextInput, place: int) -> tuple[calls.TextResult, list[Timings]]:
        """Annotate one text.

        Args:
            message: the text.
            place: its place in the call.

        Returns:
            The result, which may be the text's own error, and the timings of its sentences.

        Raises:
            OverloadedError, DeadlineError: of the call, not of this text.
        """
        with following(trail_on(self.lease, Kind.TEXT)) as trail:
            try:
                ask = self._ask(message, place, replace(self.urgency, trail=trail))
                found = await self._sentences(message.text, ask)
            except (OverloadedError, DeadlineError):
                raise
            except ServeError as error:
                trail.ended(Outcome.FAILED, error)
                return calls.TextResult(error=item_status(error)), []
            except Exception as error:
                trail.ended(Outcome.FAILED, error)
                log.exception("a text could not be annotated")
                return calls.TextResult(
                    error=item_status(InferenceError("internal error; the server's log has it"))
                ), []
        annotation = calls.TextAnnotation(sentences=[one for one, _ in found])
        return calls.TextResult(annotation=annotation), [timings for _, timings in found]

    def _ask(self, message: calls.TextInput, place: int, urgency: Urgency) -> Ask:
        predicates = None
        if message.predicates:
            field = f"inputs[{place}].predicates"
            predicates = tuple(to_code_points(message.predicates, message.text, self.options.unit, field))
        # Without a previous text it is empty, and an empty one gives no context either.
        return Ask(self.options.tasks, message.previous_text or None, predicates, urgency)

    async def _sentences(self, text: str, ask: Ask) -> list[tuple[wire.SentenceAnnotation, Timings]]:
        began, ruler = monotonic(), Ruler(self.options.unit)
        cut = await aside(len(text) > _SHORT, sentences, text)
        ask.urgency.trail.segmented(began, monotonic(), text, len(cut))
        ruler.feed(text)
        waiting = iter(enumerate(cut))
        # What comes after a call's share is in flight may wait for room: the call itself has been let in.
        patient = replace(ask, urgency=replace(ask.urgency, patient=True))

        async def some() -> list[tuple[wire.SentenceAnnotation, Timings]]:
            """One sentence after another; a task for each would hold up all else where a text has many thousands."""
            found, first = [], True
            for index, one in waiting:
                later = patient if self.share.locked() or not first else ask
                found.append(await self._sentence(one, index, ruler.measure(one.start), later))
                first = False
            return found

        parts = await together(some() for _ in range(min(len(cut), self.most)))
        return sorted((one for part in parts for one in part), key=lambda one: one[0].index)

    async def _sentence(
        self, sentence: Sentence, index: int, start: int, ask: Ask
    ) -> tuple[wire.SentenceAnnotation, Timings]:
        async with self.share:
            found = await self.lease.annotator.annotate(sentence, index, ask)
        model = convert.reference(self.lease)
        return convert.sentence(found, start, self.options.unit, model), found.timings
