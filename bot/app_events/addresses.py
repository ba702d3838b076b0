"""Which addresses an event may go to, unless the operator lets it go anywhere.

An EVENTS_URL that leads inward would let whoever sets it, or whoever answers for its name, have
this machine ask its neighbours, a cloud's metadata service among them (server-side request
forgery).
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import AddrInfoType

# All that the world's networks get is from here (IANA, "IPv6 Global Unicast Address Assignments").
_UNICAST = IPv6Network("2000::/3")
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637, newer than some a Python
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_LOWEST_32_BITS = 0xFFFFFFFF


class AddressRefusedError(OSError):
    """The address is not one of the public Internet."""

    def __init__(self) -> None:
        # Of several addresses that are refused, the transport reports one when all say the same.
        super().__init__(errno.EACCES, "not a public address")


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public Internet; raises ValueError where it is none.

    An IPv4 address within an IPv6 one (mapped, 6to4, NAT64) is judged as what it leads to.
    """
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inner = _inner(found)
        if inner is None:
            return found in _UNICAST and found not in _DOCUMENTATION and found.is_global
        found = inner
    return found.is_global and not found.is_multicast


def _inner(address: IPv6Address) -> IPv4Address | None:
    """Find the IPv4 address that a packet to this one ends at, if there is one."""
    if address in _NAT64:
        return IPv4Address(int(address) & _LOWEST_32_BITS)
    return address.ipv4_mapped or address.sixtofour


def public_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket for a connection to a public address; raises RefusedError for others.

    This is asked of each address that is really about to be connected to, whether it stands in the
    URL or was just looked up: nothing can change between the check and the connection.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise AddressRefusedError
    return socket.socket(family, kind, protocol)
