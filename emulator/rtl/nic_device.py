# SPDX-License-Identifier: MIT
"""The NIC in RTL as a PCI device: what :class:`emulator.nic_device.NicDevice` is for the model."""

from __future__ import annotations

from typing import ClassVar

from cocotb.task import resume

from emulator.frames import FrameBatch
from emulator.nic.config import NicConfig
from emulator.nic.identity import CLASS_CODE, DEVICE_ID, REVISION_ID, VENDOR_ID
from emulator.nic.wire.base import Wire
from emulator.nic_device import BAR_SIZE
from emulator.pci.device import Bar
from emulator.ports import DmaPort, IrqPort, Observer
from emulator.rtl.dut import Dut
from emulator.rtl.pci_device import RtlDevice
from emulator.rtl.ring_monitor import RingMonitor

WIRE_FRAMES = 16
"""Frames that wait between the cable and the design at most."""


class RtlNicDevice(RtlDevice):
    """``dmabed_nic`` on ``wire`` with as many queue pairs as ``design`` was built with."""

    vendor_id, device_id = VENDOR_ID, DEVICE_ID
    class_code, revision = CLASS_CODE, REVISION_ID
    bars: ClassVar = {0: Bar(size=BAR_SIZE)}
    has_tlb = True

    def __init__(self, config: NicConfig, wire: Wire, design: Dut) -> None:
        super().__init__(design)
        self.config, self.wire = config, wire
        self.msix_vectors = 1 + design.queues
        self._design = design
        design.dut.power_on_mac.value = int.from_bytes(config.mac, "little")
        design.dut.link_up.value = 0
        self._offer = resume(design.mac.send)
        self._now_ns = 0

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """As for every design."""
        super().attach(dma, irq, observer)
        self.monitor = RingMonitor(observer, lambda: self._now_ns, self._design.queues)

    def link(self, up: bool, now_ns: int) -> None:
        """The cable was plugged in or pulled out."""
        self._design.dut.link_up.value = int(up)

    def mmio_write(self, bar: int, offset: int, value: int, size: int, now_ns: int) -> None:
        """As for every design; the ledger's observer is told what the register means."""
        self._now_ns = now_ns
        self.monitor.written(offset, value)
        super().mmio_write(bar, offset, value, size, now_ns)

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """As for every design; a ring that reads as stopped has stopped."""
        value = super().mmio_read(bar, offset, size)
        self.monitor.read(offset, value)
        return value

    def reset(self, now_ns: int) -> None:
        """As for every design."""
        self._now_ns = now_ns
        super().reset(now_ns)
        self.monitor.reset()

    def writing(self, iova: int, data: bytes) -> None:
        """A completion gives a buffer back before it is seen."""
        self.monitor.completing(iova, data)

    def has_read(self, iova: int, data: bytes) -> None:
        """Descriptors hand buffers over."""
        self.monitor.fetched(iova, data)

    def step(self, now_ns: int) -> int | None:
        """Frames from the cable, simulated time, frames to the cable."""
        self._now_ns = now_ns
        mac = self._design.mac
        room = WIRE_FRAMES - mac.waiting if self._design.dut.mac_enable.value == 1 else 0
        for frame in self.wire.receive(room, now_ns) if room > 0 else ():
            self._offer(frame)
        more = self._advance()
        sent = []
        while (out := mac.receive_nowait()) is not None:
            sent.append(out)
        if sent:
            self.wire.transmit(FrameBatch.of(sent), now_ns)
        return now_ns if more else self._due(now_ns)

    def _due(self, now_ns: int) -> int | None:
        passing = self._design.dut.mac_enable.value == 1
        return self.wire.next_due_ns(now_ns) if passing else None
