# SPDX-License-Identifier: MIT
"""The example device of docs/own-device.md, from the client's chair, through a socket."""

import zlib
from pathlib import Path

import pytest

from emulator.loader import load_device
from emulator.vfio_user.messages import PciRegion

EXAMPLE = Path(__file__).parents[3] / "examples" / "scratch_device.py"
ID, SCRATCH, SOURCE, TARGET, LENGTH, START, STATUS, CHECKSUM = range(0, 64, 8)
IDLE, DONE, FAULT = range(3)
PAGE = 4096


@pytest.fixture
def scratch(bench):
    made = bench(load_device(f"{EXAMPLE}:ScratchDevice"))
    made.enable()
    return made


def copy(bench, source, target, length):
    for register, value in ((SOURCE, source), (TARGET, target), (LENGTH, length), (START, 1)):
        bench.write(register, value)
    return bench.read(STATUS)


def test_client_sees_the_ids_and_the_identity_register(scratch):
    assert scratch.config_read(0) == 0x5C7A1234
    assert scratch.read(ID) == 0x53435241_54434821
    assert scratch.client.get_region_info(0)[0].info.size == PAGE
    assert scratch.client.get_irq_info(2).count == 1


def test_scratch_register_keeps_what_is_written(scratch):
    scratch.write(SCRATCH, 0x1122334455667788)
    assert scratch.read(SCRATCH) == 0x1122334455667788
    scratch.write(ID, 0)
    assert scratch.read(ID) == 0x53435241_54434821, "the ID is read-only"


def test_copy_moves_guest_memory_and_interrupts_once(scratch, signals):
    data = bytes(range(256)) * 20
    scratch.fill(0x10000, data)
    scratch.map(0xA000000, 2 * PAGE, 0x10000, flags=1)
    scratch.map(0xB000000, 2 * PAGE, 0x20000)
    fd = scratch.eventfd(0)
    assert copy(scratch, 0xA000010, 0xB000020, 5000) == DONE
    assert signals(fd) == 1
    assert scratch.memory(0x20020, 5000) == data[0x10 : 0x10 + 5000]
    assert scratch.read(CHECKSUM) == zlib.crc32(data[0x10 : 0x10 + 5000])
    assert scratch.violations() == {}


def test_copy_into_read_only_memory_is_refused_and_changes_nothing(scratch):
    scratch.map(0xA000000, PAGE, 0)
    scratch.map(0xB000000, PAGE, PAGE, flags=1)
    scratch.fill(0, b"secret")
    assert copy(scratch, 0xA000000, 0xB000000, 6) == FAULT
    assert scratch.memory(PAGE, 6) == bytes(6)


@pytest.mark.parametrize("length", [0, (1 << 20) + 1, (1 << 64) - 1])
def test_copy_of_an_impossible_length_is_refused(scratch, length):
    scratch.map(0xA000000, PAGE, 0)
    assert copy(scratch, 0xA000000, 0xA000000, length) == FAULT
    assert scratch.endpoint.device_errors == 0


def test_reset_clears_the_registers_but_not_the_id(scratch):
    scratch.write(SCRATCH, 7)
    scratch.client.reset()
    assert scratch.client.region_read(PciRegion.BAR0, 0, 4) == b"\xff" * 4, "memory decoding is off"
    scratch.enable()
    assert scratch.read(SCRATCH) == 0
    assert scratch.read(ID) == 0x53435241_54434821
