# SPDX-License-Identifier: MIT
"""What the kernel's netlink family says of page pools, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import ProtocolError
from vm.page_pools import PagePool, attributes, parse_pools


def attribute(kind: int, value: int | bytes, size: int = 4) -> bytes:
    data = value if isinstance(value, bytes) else value.to_bytes(size, "little")
    padding = b"\0" * (-len(data) % 4)
    return (4 + len(data)).to_bytes(2, "little") + kind.to_bytes(2, "little") + data + padding


def pool(number: int, inflight: int, *more: bytes) -> str:
    return b"".join((attribute(1, number), attribute(2, 3), attribute(4, inflight), *more)).hex()


def stats(number: int, counts: dict[int, int]) -> str:
    info = attribute(1, attribute(1, number) + attribute(2, 3))
    return (info + b"".join(attribute(kind, n, 8) for kind, n in counts.items())).hex()


def test_pages_handed_out_are_taken_less_those_that_came_back() -> None:
    fast, slow, high, empty, refill, waive = 100, 5, 1, 50, 10, 7
    cached, full, ring, ring_full, referenced = 60, 9, 20, 3, 2
    counts = dict(
        enumerate(
            (fast, slow, high, empty, refill, waive, cached, full, ring, ring_full, referenced), 8
        )
    )
    text = f"{pool(7, 64)}\n--\n{stats(7, counts)}\n"
    out = fast + slow + high + refill - cached - ring - ring_full - referenced
    assert parse_pools(text) == [PagePool(7, 3, 64, detached=False, out=out)]
    assert parse_pools(text)[0].cached == 64 - out


def test_pool_of_a_driver_that_is_gone_passes_for_one_in_use() -> None:
    waiting = pool(8, 20, attribute(6, 1234))
    (found,) = parse_pools(waiting + "\n--\n")
    assert (found.detached, found.out, found.cached) == (True, None, None)
    assert parse_pools("--\n") == []


@pytest.mark.parametrize("data", ["0300 0100", "ffff0100 00000000", "08000100 0000"])
def test_attribute_that_does_not_fit_is_read(data: str) -> None:
    with pytest.raises(ProtocolError, match="netlink attribute"):
        attributes(bytes.fromhex(data))
    with pytest.raises(ProtocolError, match="no hexadecimal"):
        parse_pools("genl: not found\n")


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40)))
def test_attributes_come_back_as_they_were_packed(values: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in values.items())
    assert attributes(packed) == values
