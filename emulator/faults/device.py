# SPDX-License-Identifier: MIT
"""The NIC as a PCI Express device that can be ordered to misbehave."""

from __future__ import annotations

from emulator.faults.injector import Injector
from emulator.nic.config import NicConfig
from emulator.nic.nic import Nic
from emulator.nic.wire.base import Wire
from emulator.nic_device import NicDevice
from emulator.pci.device import PciDevice
from emulator.ports import DmaPort, IrqPort, Observer


class FaultyNicDevice(NicDevice):
    """A :class:`~emulator.nic_device.NicDevice` whose ports are wrapped by ``injector``."""

    reads_matter = True

    def __init__(self, config: NicConfig, wire: Wire, injector: Injector) -> None:
        super().__init__(config, wire)
        self.injector = injector

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Builds the NIC on wrapped ports."""
        PciDevice.attach(self, dma, irq, observer)

        def build(dma: DmaPort, irq: IrqPort, observer: Observer) -> Nic:
            return Nic(self.config, dma, irq, self.wire, observer)

        self.nic = self.injector.attach(build, dma, irq, observer)
