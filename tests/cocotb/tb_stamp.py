# SPDX-License-Identifier: MIT
"""The second design through the adapter: registers, DMA, an interrupt, a reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.task import bridge

from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger
from emulator.rtl.dut import AxiDesign
from emulator.rtl.host import HostMemory
from examples.rtl.stamp_device import StampDevice

BUFFER = 0x1234_5000_0000


class Vectors:
    """Collects interrupts."""

    def __init__(self) -> None:
        self.raised: list[int] = []

    def raise_vector(self, vector: int) -> None:
        self.raised.append(vector)


@cocotb.test()
async def the_stamp_is_not_written_or_the_interrupt_is_lost(dut: Any) -> None:
    design, vectors = AxiDesign(dut), Vectors()
    await design.start()
    space, memory = AddressSpace("stamp"), HostMemory(1 << 16)
    space.map(BUFFER, 4096, memory, 0x3000, True, True, 0)
    ledger = Ledger(lambda: 0).device("stamp")
    device = StampDevice(design)

    @bridge
    def guest() -> None:
        device.attach(SpaceDma(space, ledger, DmaGate(open=True)), vectors, ledger)
        assert device.mmio_read(0, 0, 4) == 0x5354_414D
        device.mmio_write(0, 4, BUFFER + 0x20, 8, 0)
        device.mmio_write(0, 0xC, 77, 4, 0)
        assert device.step(0) is None
        assert not memory.array.any(), "DMA without bus mastering"
        device.bus_master(True, 0)
        for value in (78, 79):
            device.mmio_write(0, 0xC, value, 4, 0)
            device.step(0)
        assert device.mmio_read(0, 0x10, 4) == 2
        device.mmio_write(0, 4, 0x66_0000, 8, 0)
        device.mmio_write(0, 0xC, 80, 4, 0)
        device.step(0)
        assert device.refused == 1, "a write to what is not mapped"
        device.reset(0)
        assert device.mmio_read(0, 4, 8) == 0

    await guest()
    written = memory.array[0x3020:0x3030].view("<u4")
    assert (int(written[2]), int(written[3])) == (79, 2)
    assert vectors.raised == [0, 0, 0]
