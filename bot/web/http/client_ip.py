"""Who asks, where proxies stand between: what X-Forwarded-For says is believed of these alone."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network

Address = IPv4Address | IPv6Address

_HOME = 64
"""Bits of an IPv6 address that one customer has in common (RFC 6177)."""
_MAX_LENGTH = 64
_IN_BRACKETS = re.compile(r"\[([^\]]*)\](?::\d+)?")
_WITH_PORT = re.compile(r"([\d.]+):\d+")


def client_address(
    peer: str | None,
    forwarded: Sequence[str],
    trusted: Sequence[IPv4Network | IPv6Network],
) -> Address | None:
    """Find the address that asks, behind the proxies that are trusted.

    `peer` is who the connection comes from, `forwarded` all X-Forwarded-For headers in order. Each
    proxy adds at the right whom it was asked by, so what stands left of the first stranger is a
    stranger's word and never looked at; nor is what stands left of nonsense. None where the peer
    itself has no address.
    """
    asks = _address(peer or "")
    entries = [entry for header in forwarded for entry in header.split(",")]
    while asks is not None and entries and any(asks in network for network in trusted):
        further = _address(entries.pop())
        if further is None:
            break
        asks = further
    return asks


def network_of(address: Address | None) -> str:
    """Name what one customer has: an IPv4 address, or the /64 of an IPv6 address."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _HOME), strict=False))
    return "" if address is None else str(address)


def _address(written: str) -> Address | None:
    """Read an address, with a port or without; one of IPv4 in the form of IPv6 is of IPv4."""
    bare = written.strip()[:_MAX_LENGTH]
    match = _IN_BRACKETS.fullmatch(bare) or _WITH_PORT.fullmatch(bare)
    try:
        address = ip_address(match[1] if match else bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # without the zone
    return address
