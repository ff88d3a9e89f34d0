"""One ModelInfer request on its way: read, run row by row through the model's scheduler, packed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tritonclient.grpc import service_pb2 as pb

from kniv.server.aside import aside
from kniv.server.errors import InvalidRequestError
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.version import Lease, trail_on
from kniv.server.scheduling.row import Row
from kniv.server.scheduling.trail import Kind, following
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services.inference.outputs import Answers, asked_for, outputs_of
from kniv.server.services.inference.parameters import named, version_of, wishes_of
from kniv.server.services.inference.room import Room
from kniv.server.services.inference.tensors import Bounds, Inputs, read_inputs

_SHORT = 1 << 17  # bytes up to which reading and packing are not worth a thread


@dataclass(frozen=True, slots=True)
class InferenceLimits:
    """What raw requests may ask for.

    Attributes:
        response_bytes: tensors of one response; and all that a stream has in flight, requests and tensors of responses.
        requests: requests of one stream in flight.
        total_bytes: tensors of the responses to all requests under way, of whatever calls and streams.
    """

    response_bytes: int = 256 << 20
    requests: int = 64
    total_bytes: int = 1 << 30


class Work:
    """A request that has been read and found good. It holds its model version until it is released.

    Args:
        lease: what it runs on.
        request_id: the caller's name for it.
        inputs: its tensors.
        answers: where its outputs go.
        outputs: their names.
        urgency: how its rows stand among others.
        size: bytes of the response's tensors.
        room: where they were taken.
    """

    def __init__(
        self,
        lease: Lease,
        request_id: str,
        inputs: Inputs,
        answers: Answers,
        outputs: tuple[str, ...],
        urgency: Urgency,
        size: int,
        room: Room,
    ) -> None:
        self.size = self._held = size
        self._room = room
        self._lease, self._id = lease, request_id
        self._inputs, self._answers, self._outputs, self._urgency = inputs, answers, outputs, urgency

    def release(self) -> None:
        """Hold the model version and the room no longer; a second time does nothing."""
        self._lease.release()
        held, self._held = self._held, 0
        self._room.give(held)

    async def answer(self, in_stream: bool) -> bytes:
        """Run the rows.

        Args:
            in_stream: whether the response goes on a stream, or answers a call of its own.

        Returns:
            The ModelStreamInferResponse or ModelInferResponse, serialised.

        Raises:
            InferenceError: the model failed on a row.
            OverloadedError, DeadlineError: there was no room for a row, or its time was up.
        """
        with following(trail_on(self._lease, Kind.RAW, self._id)) as trail:
            urgency = replace(self._urgency, trail=trail)
            await self._lease.version.rows[self._lease.variant].submit_all(self._rows(), urgency)
        return await aside(self.size > _SHORT, self._packed, in_stream)

    def _rows(self) -> list[Row[None]]:
        ids, lengths, predicates = self._inputs.ids, self._inputs.lengths, self._inputs.predicates
        return [
            Row(
                ids=ids[row, : lengths[row]],
                predicate=int(predicates[row]),
                outputs=self._outputs,
                read=partial(self._answers.write, row),
            )
            for row in range(len(ids))
        ]

    def _packed(self, in_stream: bool) -> bytes:
        version = self._lease.version
        response = pb.ModelInferResponse(id=self._id, model_name=version.model, model_version=str(version.number))
        response.parameters["variant"].string_param = self._lease.variant
        if in_stream:
            response.parameters["triton_final_response"].bool_param = True
        return self._answers.packed(response, in_stream)


async def admit(
    message: pb.ModelInferRequest, caller: Urgency, catalogue: Catalogue, limits: InferenceLimits, room: Room
) -> Work:
    """Read and check a request, and take hold of its model version and of room for its answer.

    Args:
        message: the request.
        caller: how the rows of its call stand among others.
        catalogue: the models.
        limits: what it may ask for.
        room: for the answers to all requests.

    Raises:
        InvalidRequestError: the request cannot be served as it is.
        UnsupportedError: it asks for a part of the protocol that is not served.
        NotFoundError, NotReadyError: its model, version or variant cannot be had.
        OverloadedError: there is no room, and the caller does not wait.
    """
    wishes = wishes_of(message)
    name, version = named(message.model_name, "model_name"), version_of(message.model_version, "model_version")
    lease = catalogue.lease(name, version, wishes.variant)
    try:
        opened = lease.version.opened
        urgency = replace(caller, level=wishes.level(opened.config.batching), timeout=wishes.timeout)
        outputs = asked_for(message, outputs_of(opened.message))
        bounds = Bounds(opened.config.max_batch_size, lease.limits.max_subwords, opened.encoder.vocabulary)
        inputs = await aside(message.ByteSize() > _SHORT, read_inputs, message, bounds)
        rows, subwords = inputs.ids.shape
        size = sum(output.size(rows, subwords) for output in outputs)
        if size > limits.response_bytes:
            problem = (
                f"they would take {size} bytes; at most {limits.response_bytes} a response: "
                "name the outputs that are needed, or send fewer rows"
            )
            raise InvalidRequestError("outputs", problem)
        await room.take(size, patient=caller.patient)
    except BaseException:
        lease.release()
        raise
    try:
        names = tuple(output.name for output in outputs)
        return Work(lease, message.id, inputs, Answers(outputs, rows, subwords), names, urgency, size, room)
    except BaseException:  # no memory, say
        room.give(size)
        lease.release()
        raise
