"""What signals do to a server."""

from __future__ import annotations

import asyncio
import signal

from kniv.server.app import _on_signals


def test_a_stop_that_was_no_signal_leaves_the_first_signal_patient() -> None:
    """A run that hangs stops the server; the supervisor's one SIGTERM then must not cut the drain short."""

    async def main() -> None:
        stopping, forced, heeded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        _on_signals(stopping, forced)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heeded.set)
        stopping.set()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)  # heeded after the one before
        await heeded.wait()
        assert not forced.is_set()
        signal.raise_signal(signal.SIGINT)
        await forced.wait()

    asyncio.run(main())


def test_the_first_signal_stops_and_the_second_hastens() -> None:
    async def main() -> None:
        stopping, forced = asyncio.Event(), asyncio.Event()
        _on_signals(stopping, forced)
        signal.raise_signal(signal.SIGTERM)
        await stopping.wait()
        assert not forced.is_set()
        for _ in range(2):  # a third changes nothing
            signal.raise_signal(signal.SIGTERM)
            await forced.wait()

    asyncio.run(main())
