"""The door: who calls is found out, and whether it may, before any method runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from kniv.server.errors import DeniedError, NotAllowedError, OverloadedError, ServeError
from kniv.server.security.authenticate import Authenticator, Evidence, address_of
from kniv.server.security.caller import Bounds, Caller, Grant, Proof
from kniv.server.security.quotas import Quota, Quotas
from kniv.server.security.standing import Standing, Vigil
from kniv.server.services.handler import Handler, behaviour, replaced
from kniv.server.services.status import abort, cause_of

log = logging.getLogger(__name__)

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_ANNOTATION, _INFERENCE = "kniv.v1.AnnotationService", "inference.GRPCInferenceService"
_OPEN_SERVICES = {health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection"}
_OPEN_METHODS = {f"/{_INFERENCE}/ServerLive", f"/{_INFERENCE}/ServerReady"}  # probes, as those of Health
_ADMIN_METHODS = {f"/{_INFERENCE}/RepositoryModelLoad", f"/{_INFERENCE}/RepositoryModelUnload"}


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller during one call.

    Attributes:
        caller: who it is.
        key: what all its calls have in common.
        quota: what it uses.
        elsewhere: whether administrators' calls are served by another listener.
        standing: whether it may go on, where the call is a stream.
    """

    caller: Caller
    key: tuple[str, str]
    quota: Quota
    elsewhere: bool = False
    standing: Standing = field(default_factory=Standing)

    def require(self, grant: Grant) -> None:
        """Let the caller pass if it may do this here.

        Raises:
            NotAllowedError: this is served by another listener.
            ForbiddenError: the caller may not do this.
            DeniedError: nor is it known, and might be allowed to if it were.
        """
        if grant is Grant.ADMIN and self.elsewhere:
            raise NotAllowedError("administrators' calls are served on the port that --admin-port names, not here")
        if grant not in self.caller.grants and self.caller.proof is Proof.NONE:
            raise DeniedError(
                "TOKEN_MISSING", f"this call needs the grant '{grant}': send the metadata 'authorization: Bearer TOKEN'"
            )
        self.caller.require(grant)


_VISIT: ContextVar[Visit] = ContextVar("visit")
_NOBODY = Visit(Caller(), ("", ""), Quota(Bounds(), 1.0, time.monotonic))


def visit() -> Visit:
    """The caller of the call that is being served; outside of any call one who may do nothing."""
    return _VISIT.get(_NOBODY)


def grant_of(method: str) -> Grant | None:
    """What a caller needs for a method, by its full name; None for what is open to all."""
    service = method[1:].partition("/")[0]
    if service in _OPEN_SERVICES or method in _OPEN_METHODS:
        return None
    if service == _ANNOTATION:
        return Grant.ANNOTATE
    if service == _INFERENCE and method not in _ADMIN_METHODS:
        return Grant.INFER
    return Grant.ADMIN  # and whatever may be added without a thought of this


class Access(grpc.aio.ServerInterceptor):
    """The guard of one listener.

    Args:
        authenticator: finds out who calls.
        quotas: what each caller uses.
        elsewhere: whether another listener serves administrators' calls, and this one none.
    """

    def __init__(self, authenticator: Authenticator, quotas: Quotas, *, elsewhere: bool) -> None:
        self._authenticator, self._quotas, self._elsewhere = authenticator, quotas, elsewhere
        self._vigil = Vigil(authenticator)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the guard before a method, a coroutine as all that need a grant are; one that is not there needs none."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        grant = grant_of(method)
        if handler is None or grant is None:
            return handler
        inner, streams = behaviour(handler), bool(handler.request_streaming)

        async def guarded(request: Any, context: _Context) -> Any:
            evidence = _evidence(context)
            try:
                visit = self._let_in(evidence, grant, method, streams)
                try:
                    with (
                        visit.quota.call(),
                        self._vigil.over(visit.standing, lambda: self._judge(evidence, grant, method)),
                    ):
                        _VISIT.set(visit)  # for the task of this one call, so that it need not be undone
                        return await inner(request, context)
                except (OverloadedError, grpc.aio.AbortError) as ended:
                    _tell_of_bound(visit, evidence, method, cause_of(ended))
                    raise
            except ServeError as error:
                await abort(context, error)

        return replaced(handler, guarded)

    def _let_in(self, evidence: Evidence, grant: Grant, method: str, streams: bool) -> Visit:
        """Who makes a call, if it may.

        Raises:
            ServeError: it may not.
        """
        try:
            visit = self._visit(evidence, grant, streams=streams)
        except ServeError as error:
            log.info("%s: a call of %s is refused: %s", address_of(evidence.peer), method, error)
            raise
        if grant is Grant.ADMIN:
            log.info("%s by %s at %s", method, visit.caller, address_of(evidence.peer))
        return visit

    def _judge(self, evidence: Evidence, grant: Grant, method: str) -> float:
        """Until when, in Unix time, whoever has opened a stream may go on with it; ServeError if not at all."""
        try:
            return self._visit(evidence, grant).caller.expires
        except ServeError as error:
            log.info("%s: a stream of %s ends: %s", address_of(evidence.peer), method, error)
            raise

    def _visit(self, evidence: Evidence, grant: Grant, *, streams: bool = False) -> Visit:
        """The visit that some evidence allows as things are now.

        Raises:
            ServeError: none.
        """
        caller = self._authenticator.caller(evidence)
        known = caller.proof is not Proof.NONE
        standing = Standing(caller.expires, revocable=streams and known and self._authenticator.changes)
        visit = Visit(caller, self._quotas.key(caller), self._quotas.of(caller), self._elsewhere, standing)
        visit.require(grant)
        return visit


def _tell_of_bound(visit: Visit, evidence: Evidence, method: str, cause: BaseException | None) -> None:
    """Log that a caller has reached a bound of its own, for each bound once a minute: it may go on trying."""
    if isinstance(cause, OverloadedError) and cause.reason.startswith("caller_") and visit.quota.news(cause.reason):
        log.info("%s at %s: a call of %s is refused: %s", visit.caller, address_of(evidence.peer), method, cause)


def _evidence(context: _Context) -> Evidence:
    metadata = context.invocation_metadata() or ()
    shown = context.auth_context()
    names = [*shown.get("x509_subject_alternative_name", ()), *shown.get("x509_common_name", ())]
    return Evidence(
        [value for key, value in metadata if key == "authorization"],
        [name.decode("utf-8", "replace") for name in names],
        context.peer(),
    )
