from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from kniv.server.errors import DeniedError, ForbiddenError, NotAllowedError
from kniv.server.security.authenticate import Authenticator
from kniv.server.security.caller import EVERY_GRANT, Bounds, Caller, Grant, Proof
from kniv.server.security.quotas import Quotas
from kniv.server.services.access import Access, Visit, grant_of, visit
from kniv.v1 import annotation_service_pb2

FILES = (annotation_service_pb2, service_pb2, health_pb2, reflection_pb2)
OPEN = {"Check", "Watch", "ServerReflectionInfo", "ServerLive", "ServerReady"}
ADMIN = {"RepositoryModelLoad", "RepositoryModelUnload"}
METHODS = [
    (f"/{service.full_name}/{method.name}", method.name)
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("method", "name"), METHODS)
def test_every_method_has_its_grant(method: str, name: str) -> None:
    needed = grant_of(method)
    if name in OPEN or "health" in method:
        assert needed is None
    elif name in ADMIN:
        assert needed is Grant.ADMIN
    else:
        assert needed is (Grant.ANNOTATE if "kniv" in method else Grant.INFER)


@pytest.mark.parametrize("method", ["/new.Service/Method", "", "/", "/grpc.health.v1.Healthy/Check"])
def test_what_nobody_thought_of_is_for_administrators(method: str) -> None:
    assert grant_of(method) is Grant.ADMIN


@pytest.mark.parametrize("grant", Grant)
def test_outside_of_any_call_nothing_is_allowed(grant: Grant) -> None:
    with pytest.raises(DeniedError):
        visit().require(grant)


def visitor(caller: Caller, *, elsewhere: bool = False) -> Visit:
    quotas = Quotas(Bounds(), 1.0, apart=True)
    return Visit(caller, quotas.key(caller), quotas.of(caller), elsewhere)


@pytest.mark.parametrize("grants", [frozenset(), EVERY_GRANT])
def test_calls_served_elsewhere_are_refused_whoever_makes_them(grants: frozenset[Grant]) -> None:
    with pytest.raises(NotAllowedError, match="--admin-port"):
        visitor(Caller(Proof.TOKEN, "ops", grants), elsewhere=True).require(Grant.ADMIN)


@pytest.mark.parametrize("grant", Grant)
@pytest.mark.parametrize("proof", Proof)
def test_only_those_who_are_known_are_forbidden_anything(proof: Proof, grant: Grant) -> None:
    caller = Caller(proof, "ada", EVERY_GRANT - {grant})
    with pytest.raises(DeniedError if proof is Proof.NONE else ForbiddenError, match=f"'{grant}'"):
        visitor(caller).require(grant)
    for other in caller.grants:
        visitor(caller).require(other)


class AbortedError(Exception):
    """What gRPC raises in a call that is ended."""


class Call:
    """The context of an anonymous call."""

    code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> None:
        return None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:50000"

    async def abort(self, code: grpc.StatusCode, *told: object) -> None:
        self.code = code
        raise AbortedError


async def guarded(handler: Any, method: str, *, grants: frozenset[Grant] = EVERY_GRANT, calls: int = 1) -> Any:
    async def continuation(details: Any) -> Any:
        return handler

    access = Access(
        Authenticator(anonymous_grants=grants), Quotas(Bounds(calls=calls), 1.0, apart=True), elsewhere=False
    )
    return await access.intercept_service(continuation, SimpleNamespace(method=method, invocation_metadata=()))  # type: ignore[arg-type]


ANNOTATE, CHECK = "/kniv.v1.AnnotationService/StreamAnnotations", "/grpc.health.v1.Health/Check"


def test_a_call_is_given_back_however_it_ends() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def handle(request: Any, context: Any) -> None:
            assert str(visit().caller) == "anonymous 192.0.2.1"
            begun.set()
            await request

        handler = await guarded(grpc.stream_stream_rpc_method_handler(handle), ANNOTATE)
        for end in (None, ValueError(), asyncio.CancelledError()):
            begun.clear()
            ends = asyncio.get_running_loop().create_future()
            first = asyncio.create_task(handler.stream_stream(ends, Call()))
            await begun.wait()
            second = Call()
            with pytest.raises(AbortedError):
                await asyncio.create_task(handler.stream_stream(ends, second))
            assert second.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            if end is None:
                ends.set_result(None)
            elif isinstance(end, ValueError):
                ends.set_exception(end)
            else:
                first.cancel()
            await asyncio.wait({first})
            assert first.cancelled() == isinstance(end, asyncio.CancelledError)
            assert first.cancelled() or first.exception() is end

    asyncio.run(main())


def test_what_may_not_be_done_is_not_begun() -> None:
    async def main() -> None:
        async def handle(request: Any, context: Any) -> None:
            raise AssertionError

        handler = await guarded(grpc.unary_unary_rpc_method_handler(handle), ANNOTATE, grants=frozenset({Grant.INFER}))
        call = Call()
        with pytest.raises(AbortedError):
            await handler.unary_unary(None, call)
        assert call.code is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(main())


def test_what_is_open_and_what_is_not_there_is_left_alone() -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: None)
    assert asyncio.run(guarded(handler, CHECK)) is handler
    assert asyncio.run(guarded(None, "/no.such.Service/Method")) is None
