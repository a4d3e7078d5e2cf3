# SPDX-License-Identifier: MIT
"""The base class of a PCI Express device: say what it is, then what its registers do.

Configuration space, MSI-X, reset, power states and the DMA gate are done for it by
:class:`emulator.pci.function.PciFunction`; ``docs/own-device.md`` has an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from emulator.pci.header import Bar, Identity
from emulator.ports import DmaPort, IrqPort, Observer

__all__ = ["MSIX_BAR", "Bar", "PciDevice"]

MSIX_BAR = 4
"""The BAR that holds the MSI-X table; a device with vectors cannot declare BAR 4 or 5."""


class PciDevice:
    """A PCI Express endpoint; subclass it, set the attributes, override what it does.

    vendor_id, device_id: 16 bits. class_code: 24 bits (class, subclass, interface). bars: slot to
    :class:`Bar`. msix_vectors: 0 to 128. no_soft_reset: the way from D3hot to D0 keeps the state.
    reads_matter: a register read may give :meth:`step` something to do. has_tlb: it keeps
    translations of its own, and :meth:`invalidate` is called for every unmap.
    They are read once, when the device is served; an ``__init__`` may set all but ``bars``.

    Once attached there are ``self.dma`` to reach guest memory, ``self.irq`` to interrupt, and
    ``self.observer`` to tell the ledger which buffers are the device's. A refused DMA raises
    :class:`emulator.ports.DmaFault`; a method may let it through: the access is then given up.
    """

    vendor_id: int = 0x1234
    device_id: int = 0x0000
    class_code: int = 0xFF0000
    revision: int = 0
    subsystem_vendor_id: int = 0
    subsystem_id: int = 0
    bars: ClassVar[Mapping[int, Bar]] = MappingProxyType({0: Bar(size=4096)})
    msix_vectors: int = 1
    no_soft_reset: bool = False
    reads_matter: bool = True
    has_tlb: bool = False

    dma: DmaPort
    irq: IrqPort
    observer: Observer

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Called once, before anything else."""
        self.dma, self.irq, self.observer = dma, irq, observer

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """The value of ``size`` (1, 2, 4 or 8) bytes, naturally aligned, within the BAR."""
        return 0

    def mmio_write(self, bar: int, offset: int, value: int, size: int, now_ns: int) -> None:
        """``value`` arrives; size and offset as in :meth:`mmio_read`."""

    def reset(self, now_ns: int) -> None:
        """Back to the state after power-on; DMA is off already."""

    def bus_master(self, on: bool, now_ns: int) -> None:
        """DMA became possible or impossible: bus mastering, power state or a reset changed."""

    def step(self, now_ns: int) -> int | None:
        """Does the work that is due; returns when to be called again at the latest.

        That time is in ns on the clock of ``now_ns``; None: not before the next event.
        """
        return None

    def invalidate(self, ranges: Sequence[tuple[int, int]]) -> None:
        """With ``has_tlb``: the page tables no longer have ``ranges`` (IOVA, bytes): forget them.

        Returns when nothing that uses them is under way; only then is the unmap answered.
        """

    def queue_of(self, vector: int) -> int | None:
        """The queue whose completions ``vector`` announces; None: it is no queue's."""
        return None

    @property
    def identity(self) -> Identity:
        """The attributes that fill the header."""
        return Identity(
            self.vendor_id,
            self.device_id,
            self.class_code,
            self.revision,
            self.subsystem_vendor_id,
            self.subsystem_id,
        )
