"""Bounds that the calls of one caller share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.scheduling.admission import Ledger
from kniv.server.scheduling.policy import Account, Admission
from kniv.server.scheduling.work import Item, Reason

ACCOUNTS = (None, Account("a", items=3), Account("b", bytes=100), Account("c"))
steps = st.lists(
    st.tuples(st.booleans(), st.sampled_from(ACCOUNTS), st.integers(0, 2), st.integers(0, 60)), max_size=200
)


@given(steps)
def test_an_account_is_kept_to_and_empty_at_the_end(steps: list[tuple[bool, Account | None, int, int]]) -> None:
    ledger, held = Ledger(Admission(items=50, bytes=2000, client_items=20)), list[Item]()
    for number, (arrives, account, client, size) in enumerate(steps):
        if not arrives:
            if held:
                ledger.release(held.pop(size % len(held)))
            continue
        item = Item(number, "lane", 1, (), client=(account, client), account=account, size=size)
        objection = ledger.objection(item)
        mine = [one for one in held if account is not None and one.account == account]
        full = account is not None and 0 < account.items <= len(mine)
        heavy = account is not None and bool(mine) and 0 < account.bytes < size + sum(one.size for one in mine)
        reason = None if objection is None else objection[0]
        assert (reason is Reason.CALLER_ROWS) <= full and (reason is Reason.CALLER_BYTES) <= heavy
        assert reason is not None or not (full or heavy)
        if objection is None:
            ledger.hold(item)
            held.append(item)
    for item in held:
        ledger.release(item)
    assert (ledger.items, ledger.bytes, ledger.clients, ledger.accounts) == (0, 0, 0, 0)
