"""How a call of grpc.aio really ended.

When a call ends while the client writes, grpc.aio lays "Internal error from Core" over the server's status, before or
after the true one arrives (grpc#36066). So the first status is noted when it is set, and if that is the false one, the
true one is about to come.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from kniv.client._errors import KnivError, from_rpc_error

_FALSE_DETAILS = "Internal error from Core"
_LOOKS = 100
_PAUSE_S = 0.01


class FinalStatus:
    """Made when the call is made; asked when it is over."""

    def __init__(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    async def error(self) -> KnivError | None:
        """Why the call failed; None if it did not."""
        status = self._first or await self._status()
        for _ in range(_LOOKS):
            if status.details() != _FALSE_DETAILS:
                break
            await asyncio.sleep(_PAUSE_S)
            status = await self._status()
        return None if status.code() is grpc.StatusCode.OK else from_rpc_error(status)

    async def _status(self) -> grpc.aio.AioRpcError:
        call = self._call
        return grpc.aio.AioRpcError(
            await call.code(), trailing_metadata=await call.trailing_metadata(), details=await call.details()
        )

    def _note(self, _: object) -> None:
        # The next step of the event loop may be too late. The status is there, so that nothing is waited for.
        status = self._status()
        try:
            status.send(None)
        except StopIteration as finished:
            self._first = finished.value
        status.close()
