from __future__ import annotations

import asyncio
import weakref

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.services.inbox import Inbox


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(1, 60))
def test_everything_comes_out_once_and_in_order_within_the_bounds(sizes: list[int], messages: int, size: int) -> None:
    async def main() -> None:
        inbox: Inbox[int] = Inbox(messages, size)
        put = taken = 0
        held: list[int] = []

        async def produce() -> None:
            nonlocal put
            for number, bytes_ in enumerate(sizes):
                await inbox.put(number, bytes_)
                held.append(bytes_)
                put += 1
                waiting = held[taken:]
                assert len(waiting) <= messages
                assert len(waiting) == 1 or sum(waiting) <= size
            await inbox.close()

        producer = asyncio.create_task(produce())
        out = []
        while True:
            await asyncio.sleep(0)
            number = await inbox.get()
            if number is None:
                break
            taken += 1
            out.append(number)
        await producer
        assert out == list(range(len(sizes)))

    asyncio.run(main())


def test_what_is_cleared_is_not_held_any_more() -> None:
    class Text:
        pass

    async def main() -> None:
        inbox: Inbox[Text] = Inbox(2, 10)
        text = Text()
        held = weakref.ref(text)
        await inbox.put(text, 10)
        del text
        inbox.clear()
        assert held() is None
        await inbox.put(Text(), 10)  # has room again

    asyncio.run(main())
