"""Which addresses the server may send to: tenants name them, so they must not lead inside.

Theory of operation: a name is resolved once, every address that it has must be allowed, and the
connection goes to one of those very addresses. So a name that changes its mind in between, or a
public name with a private address, leads nowhere.
"""

import socket
from collections.abc import Callable
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
Resolve = Callable[[str, int], list[str]]
"""The addresses of a host name, in the order in which to try them."""

_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure, a public address
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
        ),
    )
)
"""Where clouds hand credentials to their machines, beside the link-local 169.254.169.254."""

_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",
            "100.64.0.0/10",  # Shared by customers of a carrier.
            "127.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::1/128",
            "fc00::/7",
        ),
    )
)
_ODD: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(
        ip_network,
        (
            "192.88.99.0/24",  # Relays of 6to4.
            "2001::/23",  # Teredo and other protocols, some of which wrap IPv4 addresses.
            "2002::/16",  # 6to4, which does.
            "3fff::/20",  # Documentation.
            "fec0::/10",  # Site-local.
        ),
    )
)
"""What not every Python knows to be no place for a web server."""


class Reach(StrEnum):
    """Where an address leads."""

    PUBLIC = "public"
    PRIVATE = "private"
    NOWHERE = "nowhere"
    """Link-local, metadata of a cloud, multicast, reserved: no webhook can be meant."""


class ForbiddenAddressError(Exception):
    """The address of a webhook is not one that this server sends to."""


def reach_of(address: IPAddress) -> Reach:
    """Where a connection to the address would lead."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return reach_of(address.ipv4_mapped)
        if address in _NAT64:
            return reach_of(IPv4Address(address.packed[-4:]))
        address = IPv6Address(address.packed)  # Without its zone.
    if address in _METADATA:
        return Reach.NOWHERE
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if address.is_multicast or address.is_reserved or not address.is_global:
        return Reach.NOWHERE
    if any(address in network for network in _ODD):
        return Reach.NOWHERE
    return Reach.PUBLIC


def check_address(address: IPAddress, *, allow_private: bool) -> None:
    """Let an address pass.

    Raises:
        ForbiddenAddressError: It is not one to send to. The message does not tell the address, so
            that nobody maps a network through us.
    """
    reach = reach_of(address)
    if reach is Reach.NOWHERE:
        raise ForbiddenAddressError(
            "the host has a link-local, metadata, multicast or reserved address"
        )
    if reach is Reach.PRIVATE and not allow_private:
        raise ForbiddenAddressError(
            "the host has a loopback or private address; SLACKLINE_WEBHOOKS__ALLOW_PRIVATE=true on"
            " the server allows those"
        )


def checked_addresses(
    host: str, port: int, *, allow_private: bool, resolve: Resolve
) -> list[IPAddress]:
    """The addresses of a host, all of which may be connected to.

    Raises:
        ForbiddenAddressError: One of them may not.
        OSError: The name cannot be resolved.
    """
    found = [ip_address(address) for address in resolve(host, port)]
    for address in found:
        check_address(address, allow_private=allow_private)
    return found


def resolve_by_system(host: str, port: int) -> list[str]:
    """Ask the system's resolver; blocks."""
    return _addresses(host, port, flags=0)


def numeric_addresses(host: str) -> list[IPAddress]:
    """The address that a host spells in digits, in any way that connects; empty for a name."""
    try:
        return [ip_address(address) for address in _addresses(host, 0, socket.AI_NUMERICHOST)]
    except OSError:
        return []


def _addresses(host: str, port: int, flags: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
