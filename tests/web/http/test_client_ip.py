from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.web.http.client_ip import client_address, network_of, wide_network_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PROXY, STRANGER = "10.1.2.3", "203.0.113.9"
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32")]


def found(peer: str | None, *forwarded: str, trusted: Sequence[str] | None = None) -> str | None:
    networks = TRUSTED if trusted is None else [ip_network(network) for network in trusted]
    address = client_address(peer, forwarded, networks)
    return None if address is None else str(address)


def test_without_a_trusted_proxy_the_peer_is_the_client() -> None:
    assert found(STRANGER) == STRANGER
    assert found(STRANGER, "198.51.100.1") == STRANGER
    assert found(STRANGER, "10.9.9.9, 198.51.100.1") == STRANGER
    assert found(PROXY, "198.51.100.1", trusted=[]) == PROXY


def test_a_trusted_proxy_names_the_client() -> None:
    assert found(PROXY, STRANGER) == STRANGER
    assert found("fd00::1", STRANGER) == STRANGER


def test_entries_left_of_the_first_untrusted_one_are_ignored() -> None:
    assert found(PROXY, f"1.1.1.1, 10.0.0.1, {STRANGER}") == STRANGER
    assert found(PROXY, f"10.0.0.1, 10.0.0.2, {STRANGER}") == STRANGER
    assert found(PROXY, "1.1.1.1", f"2.2.2.2,{STRANGER}") == STRANGER


def test_trusted_proxies_in_a_row_are_skipped() -> None:
    assert found(PROXY, f"1.1.1.1, {STRANGER}, 10.0.0.1, 192.0.2.7") == STRANGER
    assert found(PROXY, f"1.1.1.1, {STRANGER}", "10.0.0.1", "192.0.2.7") == STRANGER


def test_if_all_are_trusted_the_furthest_is_the_client() -> None:
    assert found(PROXY) == PROXY
    assert found(PROXY, "10.0.0.1, 10.0.0.2") == "10.0.0.1"


@pytest.mark.parametrize(
    "nonsense",
    [
        *("", " ", "-", "unknown", "_hidden", "[", "[]", "[::1", "::g"),
        *("1.2.3", "1.2.3.4.5", "999.1.1.1", "1.2.3.4:port", "1.2.3.4\x00", "0x7f.1", "010.0.0.1"),
        *("\u0661.2.3.4", "9" * 100_000),
    ],
)
def test_an_invalid_entry_ends_the_search_at_the_proxy_that_sent_it(nonsense: str) -> None:
    assert found(PROXY, nonsense) == PROXY
    assert found(PROXY, f"{STRANGER}, {nonsense}") == PROXY
    assert found(PROXY, f"{STRANGER}, {nonsense}, 10.0.0.1") == "10.0.0.1"
    assert found(PROXY, f"{nonsense}, {STRANGER}") == STRANGER


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (f"{STRANGER}:4711", STRANGER),
        (f"  {STRANGER}\t", STRANGER),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:DB8:0::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (f"::ffff:{STRANGER}", STRANGER),
        (f"[::ffff:{STRANGER}]:443", STRANGER),
    ],
)
def test_an_address_is_parsed_however_a_proxy_writes_it(written: str, address: str) -> None:
    assert found(PROXY, written) == address


def test_a_trusted_proxy_may_be_an_ipv4_mapped_ipv6_address() -> None:
    assert found(f"::ffff:{PROXY}", STRANGER) == STRANGER
    assert found(PROXY, f"{STRANGER}, ::ffff:10.0.0.1") == STRANGER


def test_a_peer_without_an_address_has_no_client_address() -> None:
    assert found(None, STRANGER) is None
    assert found("", STRANGER) is None


@given(st.lists(st.text()), st.sampled_from([PROXY, STRANGER]))
def test_any_header_is_handled(forwarded: list[str], peer: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) is not None


@given(st.lists(st.ip_addresses().map(str)))
def test_no_forged_list_hides_the_client(claimed: list[str]) -> None:
    assert found(PROXY, ", ".join([*claimed, STRANGER])) == STRANGER


def test_addresses_of_one_customer_are_one_network() -> None:
    assert network_of(ip_address(STRANGER)) == STRANGER
    first = network_of(ip_address("2001:db8:1:2:3:4:5:6"))
    assert first == network_of(ip_address("2001:db8:1:2:ffff::1")) == "2001:db8:1:2::/64"
    assert first != network_of(ip_address("2001:db8:1:3:3:4:5:6"))
    assert network_of(None) == ""


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::", "2001:db8:1::/48"),
    ],
)
def test_the_wide_network_is_the_24_or_the_48(address: str, network: str) -> None:
    assert wide_network_of(ip_address(address)) == network
    assert wide_network_of(None) == ""
