"""Refuses private addresses for events, unless EVENTS_TO_PRIVATE is on.

Otherwise the person who sets EVENTS_URL, or controls the DNS records of its host, could make this
machine send requests to its private network or to a cloud's metadata service (server-side request
forgery, SSRF).
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import AddrInfoType

# All public IPv6 addresses are assigned from here (IANA, "IPv6 Global Unicast Address
# Assignments").
_UNICAST = IPv6Network("2000::/3")
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637, newer than some Python versions know
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_LOWEST_32_BITS = 0xFFFFFFFF


class AddressRefusedError(OSError):
    """The address is not a public Internet address."""

    def __init__(self) -> None:
        # If all addresses of a host are refused, aiohttp raises one error only if theirs are equal.
        super().__init__(errno.EACCES, "not a public address")


def is_public(address: str) -> bool:
    """Return whether an IP address is a public Internet address.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, NAT64) is judged by the IPv4
    address. Raises ValueError if `address` is not an IP address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        embedded = _embedded_ipv4(ip)
        if embedded is None:
            return ip in _UNICAST and ip not in _DOCUMENTATION and ip.is_global
        ip = embedded
    return ip.is_global and not ip.is_multicast


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & _LOWEST_32_BITS)
    return address.ipv4_mapped or address.sixtofour


def public_socket(address: AddrInfoType) -> socket.socket:
    """Return a socket to connect to a public address; raise AddressRefusedError for any other.

    aiohttp calls this for each address right before it connects, whether the address is in the URL
    or was just looked up: no second DNS lookup can change it after the check.
    """
    family, kind, protocol, _, sockaddr = address
    if not is_public(str(sockaddr[0])):
        raise AddressRefusedError
    return socket.socket(family, kind, protocol)
