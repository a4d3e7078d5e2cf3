# SPDX-License-Identifier: MIT
"""The NIC as a PCI Express device: binds the model of :mod:`emulator.nic` to a function."""

from __future__ import annotations

from typing import ClassVar

from emulator.nic.bus import NicBus
from emulator.nic.config import NicConfig
from emulator.nic.identity import (
    CLASS_CODE,
    DEVICE_ID,
    FIRST_QUEUE_VECTOR,
    REVISION_ID,
    VENDOR_ID,
)
from emulator.nic.nic import Nic
from emulator.nic.wire.base import Wire
from emulator.pci.device import Bar, PciDevice
from emulator.ports import DmaPort, IrqPort, Observer

BAR_SIZE = 1 << 16


class NicDevice(PciDevice):
    """A NIC built as ``config`` says, on ``wire``; its link is down until :meth:`link` is called.

    ``nic`` is the model: there once the device is attached.
    """

    vendor_id, device_id = VENDOR_ID, DEVICE_ID
    class_code, revision = CLASS_CODE, REVISION_ID
    bars: ClassVar = {0: Bar(size=BAR_SIZE)}
    reads_matter = False

    nic: NicBus

    def __init__(self, config: NicConfig, wire: Wire) -> None:
        self.config, self.wire = config, wire
        self.msix_vectors = 1 + config.queues

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Builds the NIC, as after power-on."""
        super().attach(dma, irq, observer)
        self.nic = Nic(self.config, dma, irq, self.wire, observer)

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """See :meth:`emulator.nic.nic.Nic.mmio_read`."""
        return self.nic.mmio_read(offset, size)

    def mmio_write(self, bar: int, offset: int, value: int, size: int, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.mmio_write`."""
        self.nic.mmio_write(offset, value, size, now_ns)

    def reset(self, now_ns: int) -> None:
        """A function-level reset; the link stays as it is."""
        self.nic.power_reset(now_ns)

    def bus_master(self, on: bool, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.bus_master`."""
        self.nic.bus_master(on, now_ns)

    def step(self, now_ns: int) -> int | None:
        """See :meth:`emulator.nic.nic.Nic.step`."""
        return self.nic.step(now_ns)

    def queue_of(self, vector: int) -> int | None:
        """Vector 0 is for events; then there is one a queue pair."""
        return vector - FIRST_QUEUE_VECTOR if vector >= FIRST_QUEUE_VECTOR else None

    def link(self, up: bool, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.link`."""
        self.nic.link(up, now_ns)
