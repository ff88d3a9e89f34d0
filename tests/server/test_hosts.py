from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.hosts import is_loopback


@given(st.ip_addresses())
def test_addresses_are_told_as_the_standard_has_them(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_loopback(str(address)) == address.is_loopback


@given(st.ip_addresses(network="127.0.0.0/8"))
def test_all_of_its_block_is_loopback(address: ipaddress.IPv4Address) -> None:
    assert is_loopback(str(address))


@pytest.mark.parametrize("name", ["localhost.example", "db1", "", "127.0.0.1:80", "[::1]"])
def test_of_a_name_nobody_can_tell(name: str) -> None:
    assert is_loopback("localhost") and not is_loopback(name)
