# SPDX-License-Identifier: MIT
"""Configuration space: each bit does what its mask says, whatever is written where."""

import struct
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.pci.config_space import SIZE, Change, ConfigSpace, Register
from emulator.pci.device import Bar, PciDevice
from emulator.pci.errors import BadDeviceError
from emulator.pci.function import PciFunction


class Device(PciDevice):
    vendor_id, device_id, class_code, revision = 0x1234, 0xDBED, 0x020000, 1
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100
    bars: ClassVar = {0: Bar(1 << 16), 2: Bar(4096, is_64bit=False, prefetchable=True)}
    msix_vectors = 5


class Mute:
    def deliver(self, vector): ...
    def gate_changed(self, is_open, why, now_ns): ...
    def was_reset(self, now_ns): ...


def make_function(device: PciDevice | None = None) -> PciFunction:
    return PciFunction(device or Device(), Mute())


def dword(function: PciFunction, offset: int) -> int:
    return struct.unpack("<I", function.config_read(offset, 4))[0]


def put(function: PciFunction, offset: int, value: int, size: int = 4) -> None:
    function.config_write(offset, value.to_bytes(size, "little"), 0)


def plain_chain(function: PciFunction) -> dict[int, int]:
    """Capability id to offset; fails on a loop, a bad alignment or a wild pointer."""
    found: dict[int, int] = {}
    at = function.config_read(0x34, 1)[0]
    while at:
        assert 0x40 <= at < 0x100 and at % 4 == 0 and at not in found.values()
        identity, following = function.config_read(at, 2)
        assert identity not in found
        found[identity], at = at, following
    return found


def extended_chain(function: PciFunction) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0x100
    while at:
        assert 0x100 <= at < SIZE and at % 4 == 0 and at not in found.values()
        head = dword(function, at)
        found[head & 0xFFFF], at = at, head >> 20
    return found


def test_header_names_the_device():
    function = make_function()
    assert dword(function, 0) == 0xDBED1234
    assert dword(function, 8) == 0x02000001
    assert dword(function, 0x2C) == 0x11001AF4
    assert function.config_read(0x0E, 1) == b"\0", "header type 0, one function"
    assert function.config_read(0x3D, 1) == b"\0", "no INTx pin"
    assert dword(function, 0x30) == 0, "no expansion ROM"


def test_capability_chains_hold_every_capability():
    function = make_function()
    assert set(plain_chain(function)) == {0x01, 0x11, 0x10}
    assert set(extended_chain(function)) == {0x0001}
    assert dword(function, 0x04) >> 16 & 0x10, "the status bit that says there is a chain"


def test_device_without_vectors_has_no_msix_capability():
    class Quiet(Device):
        msix_vectors = 0

    function = make_function(Quiet())
    assert set(plain_chain(function)) == {0x01, 0x10}
    assert 4 not in function.bars


def test_sizing_a_64_bit_bar_yields_its_size_and_type():
    function = make_function()
    put(function, 0x10, 0xFFFFFFFF)
    put(function, 0x14, 0xFFFFFFFF)
    low, high = dword(function, 0x10), dword(function, 0x14)
    assert low & 0xF == 0b0100
    assert (-(high << 32 | low & ~0xF)) & (1 << 64) - 1 == 1 << 16


def test_sizing_a_32_bit_prefetchable_bar_yields_its_size_and_type():
    function = make_function()
    put(function, 0x18, 0xFFFFFFFF)
    assert dword(function, 0x18) == 0xFFFFF008
    put(function, 0x1C, 0xFFFFFFFF)
    assert dword(function, 0x1C) == 0, "slot 3 has no BAR"


def test_bar_keeps_the_address_that_was_written():
    function = make_function()
    put(function, 0x10, 0xFEB01234)
    put(function, 0x14, 0x12)
    assert dword(function, 0x10) == 0xFEB00004
    assert dword(function, 0x14) == 0x12


def test_bar_above_4_gib_is_sized_by_its_high_half():
    class Huge(Device):
        bars: ClassVar = {0: Bar(1 << 33)}

    function = make_function(Huge())
    put(function, 0x10, 0xFFFFFFFF)
    put(function, 0x14, 0xFFFFFFFF)
    assert (dword(function, 0x10), dword(function, 0x14)) == (4, 0xFFFFFFFE)


def test_io_space_enable_cannot_be_set():
    function = make_function()
    put(function, 4, 0xFFFF, 2)
    assert dword(function, 4) & 0xFFFF == 0x0546


def test_identity_is_read_only():
    function = make_function()
    before = function.config_read(0, 4)
    put(function, 0, 0xDEADBEEF)
    assert function.config_read(0, 4) == before


def test_status_error_bits_are_cleared_by_ones_only():
    function = make_function()
    function.config["status"] |= 0xF900
    put(function, 6, 0x0800, 2)
    assert function.config["status"] == 0xF110
    put(function, 6, 0x0000, 2)
    assert function.config["status"] == 0xF110, "zeros clear nothing"
    put(function, 6, 0xFFFF, 2)
    assert function.config["status"] == 0x0010


def test_byte_write_leaves_the_other_bytes_of_a_register_alone():
    function = make_function()
    put(function, 4, 0x0546, 2)
    put(function, 5, 0x00, 1)
    assert function.config["command"] == 0x0046


def test_write_over_two_registers_reaches_both():
    function = make_function()
    function.config["status"] |= 0x8000
    put(function, 4, 0x80000006)
    assert function.config["command"] == 6
    assert function.config["status"] == 0x0010


def test_pulse_bit_acts_but_reads_zero():
    space = ConfigSpace([Register("go", 0, 2, write=1, pulse=0x8000)])
    assert space.write(0, b"\x01\x80") == [Change("go", 0, 0x8001)]
    assert space.read(0, 2) == b"\x01\x00"


def test_reads_past_the_end_are_ones():
    function = make_function()
    assert function.config_read(SIZE - 2, 4) == b"\0\0\xff\xff"
    assert function.config_read(SIZE + 100, 4) == b"\xff" * 4
    function.config_write(SIZE - 2, b"\xff" * 8, 0)


def test_overlapping_registers_are_refused():
    with pytest.raises(BadDeviceError, match="overlaps"):
        ConfigSpace([Register("a", 0, 4), Register("b", 2, 2)])


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"bars": {0: Bar(5000)}}, "power of two"),
        ({"bars": {0: Bar(8)}}, "power of two"),
        ({"bars": {6: Bar(4096)}}, "no BAR 6"),
        ({"bars": {0: Bar(4096), 1: Bar(4096)}}, "needs slot 1"),
        ({"bars": {5: Bar(4096)}, "msix_vectors": 0}, "needs slot 6"),
        ({"bars": {0: 4096}}, "write Bar"),
        ({"bars": {4: Bar(4096)}}, "hold the MSI-X table"),
        ({"bars": {3: Bar(4096)}}, "needs slot 4"),
        ({"msix_vectors": 129}, "msix_vectors"),
        ({"vendor_id": 0xFFFF}, "vendor_id"),
        ({"device_id": -1}, "device_id"),
        ({"class_code": 1 << 24}, "class_code"),
    ],
)
def test_impossible_device_is_refused_by_name(attributes, text):
    with pytest.raises(BadDeviceError, match=text):
        make_function(type("Broken", (Device,), attributes)())


writes = st.lists(
    st.tuples(st.integers(-8, SIZE + 8), st.binary(min_size=1, max_size=64)), max_size=30
)


@given(writes)
def test_no_sequence_of_writes_breaks_an_invariant(sequence):
    function = make_function()
    fixed = {
        at: function.config_read(at, size)
        for at, size in ((0x00, 4), (0x08, 4), (0x2C, 8), (0x3D, 1))
    }
    chains = plain_chain(function), extended_chain(function)
    for offset, data in sequence:
        function.config_write(offset, data, 0)
    assert {at: function.config_read(at, len(old)) for at, old in fixed.items()} == fixed
    assert (plain_chain(function), extended_chain(function)) == chains
    assert dword(function, 0x10) & 0xFFFF == 0b0100, "bits below a BAR's size stay as they are"
    assert function.config["pm.control"] & 3 in (0, 3), "D1 and D2 do not exist"
    assert function.config["command"] & ~0x0546 == 0
    command = function.config["command"]
    assert function.gate_open == bool(command & 4 and function.in_d0)
    assert function.mmio_on == bool(command & 2 and function.in_d0)
