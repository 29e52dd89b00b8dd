"""Where webhooks may lead, for every class of address."""

from ipaddress import ip_address

import pytest

from api.webhooks.addresses import (
    ForbiddenAddressError,
    Reach,
    checked_addresses,
    numeric_addresses,
    reach_of,
)

PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
WRAPPED_PUBLIC = ["::ffff:93.184.215.14", "64:ff9b::93.184.215.14"]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "100.64.0.1", "fd12:3456::1", "fc00::1",
]  # fmt: skip
WRAPPED_PRIVATE = ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1"]
NOWHERE = [
    # Link-local, and the metadata of clouds.
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%lo", "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200",
    "168.63.129.16", "192.0.0.192",
    # Unspecified, "this network", multicast, broadcast, reserved, documentation, benchmarks.
    "0.0.0.0", "::", "0.1.2.3", "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255",
    "240.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "198.18.0.1",
    "100::1", "3fff::1", "4000::1", "fec0::1",
    # Tunnels and translations that hide an IPv4 address.
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:5db8:d70e::",
    "2001:0:7f00:1::", "192.88.99.1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        *((address, Reach.PUBLIC) for address in PUBLIC + WRAPPED_PUBLIC),
        *((address, Reach.PRIVATE) for address in PRIVATE + WRAPPED_PRIVATE),
        *((address, Reach.NOWHERE) for address in NOWHERE),
    ],
)
def test_every_class_of_address_is_told_apart(address: str, reach: Reach) -> None:
    assert reach_of(ip_address(address)) is reach


@pytest.mark.parametrize("address", PRIVATE + WRAPPED_PRIVATE + NOWHERE)
def test_no_address_but_a_public_one_passes(address: str) -> None:
    with pytest.raises(ForbiddenAddressError) as refusal:
        checked_addresses("h", 443, allow_private=False, resolve=lambda *_: [address])
    assert address not in str(refusal.value)


@pytest.mark.parametrize("address", NOWHERE)
def test_metadata_and_the_like_do_not_pass_even_where_private_addresses_do(address: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        checked_addresses("h", 443, allow_private=True, resolve=lambda *_: [address])
    private = checked_addresses("h", 443, allow_private=True, resolve=lambda *_: PRIVATE)
    assert list(map(str, private)) == PRIVATE


def test_one_bad_address_spoils_a_name() -> None:
    with pytest.raises(ForbiddenAddressError):
        checked_addresses(
            "h", 443, allow_private=False, resolve=lambda *_: [*PUBLIC, "192.168.0.1"]
        )


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "017700000001", "::ffff:7f00:1"])
def test_an_address_in_digits_of_any_kind_is_seen_through(host: str) -> None:
    (address,) = numeric_addresses(host)
    assert reach_of(address) is Reach.PRIVATE


def test_a_name_is_not_looked_up_to_see_whether_it_is_an_address() -> None:
    assert numeric_addresses("localhost") == []
