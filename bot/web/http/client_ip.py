"""The client's IP address behind proxies; X-Forwarded-For is read from trusted proxies only."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network

    from aiohttp import web

Address = IPv4Address | IPv6Address

_SITE_PREFIX = 64
"""Bits that all IPv6 addresses of one customer have in common, at least (RFC 6177)."""
_WIDE_PREFIXES = {4: 24, 6: 48}
"""Bits that the addresses of one provider's customer often have in common: a /48 is the most that
one gets (RFC 6177), a /24 the least that is announced on its own (RFC 7454 §6.1.3)."""
_MAX_LENGTH = 64
_IN_BRACKETS = re.compile(r"\[([^\]]*)\](?::\d+)?")
_WITH_PORT = re.compile(r"([\d.]+):\d+")


def client_address(
    peer: str | None,
    forwarded: Sequence[str],
    trusted: Sequence[IPv4Network | IPv6Network],
) -> Address | None:
    """Return the client's address; None if the connection has none.

    `peer` is the address of the connection, `forwarded` holds all X-Forwarded-For headers in
    order. Each proxy appends the address of its own peer, so the entries are read from the right.
    Entries left of the first untrusted or invalid one can be forged and are ignored.
    """
    client = _parse(peer or "")
    entries = [entry for header in forwarded for entry in header.split(",")]
    while client is not None and entries and any(client in network for network in trusted):
        previous = _parse(entries.pop())
        if previous is None:
            break
        client = previous
    return client


def network_of(address: Address | None) -> str:
    """Return the network of one customer: an IPv4 address, or the /64 of an IPv6 address."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _SITE_PREFIX), strict=False))
    return "" if address is None else str(address)


def wide_network_of(address: Address | None) -> str:
    """Return the wider network around that of `network_of`: the /24 or /48 of an address."""
    if address is None:
        return ""
    return str(ip_network((int(address), _WIDE_PREFIXES[address.version]), strict=False))


def network_of_request(request: web.Request, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the network of the client that sent a request."""
    return network_of(_client_of(request, trusted))


def wide_network_of_request(
    request: web.Request, trusted: Sequence[IPv4Network | IPv6Network]
) -> str:
    """Return the wider network of the client that sent a request."""
    return wide_network_of(_client_of(request, trusted))


def _client_of(
    request: web.Request, trusted: Sequence[IPv4Network | IPv6Network]
) -> Address | None:
    forwarded = request.headers.getall("X-Forwarded-For", [])
    return client_address(request.remote, forwarded, trusted)


def _parse(text: str) -> Address | None:
    """Return an address that has a port or not; an IPv4-mapped IPv6 address is an IPv4 address."""
    bare = text.strip()[:_MAX_LENGTH]
    match = _IN_BRACKETS.fullmatch(bare) or _WITH_PORT.fullmatch(bare)
    try:
        address = ip_address(match[1] if match else bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # without the zone
    return address
