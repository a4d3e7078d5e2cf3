# SPDX-License-Identifier: MIT
"""A PCIe device of your own: an ID, a scratch register, and an engine that copies guest memory."""

import zlib
from typing import ClassVar

from emulator.pci.device import Bar, PciDevice
from emulator.ports import DmaFault

ID, SCRATCH, SOURCE, TARGET, LENGTH, START, STATUS, CHECKSUM = range(0, 64, 8)
WRITABLE = (SCRATCH, SOURCE, TARGET, LENGTH)
IDLE, DONE, FAULT = range(3)
MAGIC = 0x53435241_54434821
LONGEST_COPY = 1 << 20


class ScratchDevice(PciDevice):
    """Eight registers of 64 bits in BAR0; vector 0 says that a copy is over."""

    vendor_id, device_id, class_code = 0x1234, 0x5C7A, 0xFF0000
    bars: ClassVar = {0: Bar(size=4096)}
    msix_vectors = 1

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, now_ns: int) -> None:
        """Clears every register but the ID."""
        self.registers = {ID: MAGIC}

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """Registers are read as 8 bytes, or as 4 at their start; what is not there reads 0."""
        return self.registers.get(offset, 0)

    def mmio_write(self, bar: int, offset: int, value: int, size: int, now_ns: int) -> None:
        """Keeps what is written; a write to START copies LENGTH bytes from SOURCE to TARGET."""
        if offset in WRITABLE:
            self.registers[offset] = value
        elif offset == START:
            self.copy(*(self.registers.get(name, 0) for name in (SOURCE, TARGET, LENGTH)))
            self.irq.raise_vector(0)

    def copy(self, source: int, target: int, length: int) -> None:
        """The DMA engine: whatever the guest asks for, STATUS says how it ended."""
        try:
            if length > LONGEST_COPY:
                raise DmaFault(source, length, False, "longer than the engine's buffer")
            data = self.dma.read(source, length)
            self.dma.write(target, data)
            self.registers |= {STATUS: DONE, CHECKSUM: zlib.crc32(data)}
        except DmaFault:
            self.registers[STATUS] = FAULT
