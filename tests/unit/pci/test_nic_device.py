# SPDX-License-Identifier: MIT
"""The NIC as a PCI device: what the function does reaches the model, and the other way round."""

import struct

import numpy as np
import pytest

from emulator.endpoint import Endpoint
from emulator.frames import FrameBatch
from emulator.iommu.latency import LatencyModel
from emulator.ledger import Ledger
from emulator.nic.config import NicConfig
from emulator.nic.registers import (
    DMABED_CAPS,
    DMABED_EVENT_LINK,
    DMABED_EVENT_MASK,
    DMABED_ID,
    DMABED_ID_MAGIC_VALUE,
    DMABED_MAC_LO,
    DMABED_MAX_FRAME,
    DMABED_STATUS,
    DMABED_STATUS_LINK_UP,
)
from emulator.nic_device import NicDevice

MAC = b"\x52\x54\x00\x12\x34\x56"
MEM, BME = 2, 4


class DeadWire:
    def receive(self, room, now_ns):
        return FrameBatch.empty()

    def transmit(self, frames, now_ns):
        assert isinstance(frames.lengths, np.ndarray)

    def next_due_ns(self, now_ns):
        return None


@pytest.fixture
def endpoint():
    device = NicDevice(NicConfig(MAC, queues=3), DeadWire())
    endpoint = Endpoint(device, "nic", Ledger(lambda: 0), LatencyModel(), lambda: 0)
    endpoint.region_write(7, 4, bytes([MEM | BME, 0]))
    return endpoint


def read(endpoint, register):
    return struct.unpack("<I", endpoint.region_read(0, register, 4))[0]


def write(endpoint, register, value):
    endpoint.region_write(0, register, struct.pack("<I", value))


def test_ids_and_vectors_are_those_of_the_contract(endpoint):
    assert endpoint.region_read(7, 0, 12) == struct.pack(
        "<HHHHI", 0x1234, 0xDBED, 6, 16, 0x02000001
    )
    assert endpoint.irq(2).count == 4
    assert [endpoint.region(index).size for index in range(6)] == [65536, 0, 0, 0, 4096, 0]
    assert read(endpoint, DMABED_ID) == DMABED_ID_MAGIC_VALUE
    assert read(endpoint, DMABED_CAPS) >> 24 == 4


def test_flr_brings_the_mac_address_back_and_keeps_the_link(endpoint):
    endpoint.device.link(True, 0)
    write(endpoint, DMABED_MAC_LO, 0)
    write(endpoint, DMABED_MAX_FRAME, 2000)
    endpoint.reset(0)
    endpoint.region_write(7, 4, bytes([MEM | BME, 0]))
    assert read(endpoint, DMABED_MAC_LO) == int.from_bytes(MAC[:4], "little")
    assert read(endpoint, DMABED_MAX_FRAME) == 1518
    assert read(endpoint, DMABED_STATUS) & DMABED_STATUS_LINK_UP


def test_link_event_interrupts_as_soon_as_bus_mastering_is_on(endpoint):
    write(endpoint, DMABED_EVENT_MASK, DMABED_EVENT_LINK)
    endpoint.region_write(7, endpoint.function.config.register("msix.control").offset, b"\x00\x80")
    endpoint.region_write(7, 4, bytes([MEM, 0]))
    endpoint.device.link(True, 0)
    assert endpoint.function.msix.pending == set()
    endpoint.region_write(7, 4, bytes([MEM | BME, 0]))
    assert endpoint.function.msix.pending == {0}, "no event descriptor yet"


def test_registers_are_gone_in_d3hot(endpoint):
    endpoint.region_write(7, endpoint.function.config.register("pm.control").offset, b"\x03\x00")
    assert read(endpoint, DMABED_ID) == 0xFFFFFFFF
    assert endpoint.device_errors == 0
