# SPDX-License-Identifier: MIT
"""An endpoint: a PCI function, its address space and its ledger as one vfio-user device.

This is where the parts of the emulator meet; nothing above it knows that the guest is behind a
socket. The hot paths are a doorbell, a map and an unmap: they take the shortest way through.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable

from emulator.endpoint_irqs import IrqLines, change_asked
from emulator.errors import DmabedError
from emulator.iommu.dma import DmaGate, RemoteMemory, SpaceDma
from emulator.iommu.errors import MappingError, PartialUnmapError
from emulator.iommu.latency import LatencyModel
from emulator.iommu.mapping import IOVA_END, PAGE_SHIFT
from emulator.iommu.space import AddressSpace
from emulator.ledger import DeviceLedger, Ledger
from emulator.ledger.facts import Interrupted, TableWritten, VectorsChanged
from emulator.ledger.signals import Signal
from emulator.pci.config_space import SIZE as CONFIG_SIZE
from emulator.pci.device import MSIX_BAR, PciDevice
from emulator.pci.function import PciFunction
from emulator.ports import DmaFault
from emulator.vfio_user.backing import GuestMemory
from emulator.vfio_user.device import DeviceInfo, IrqInfo, IrqSet, RegionInfo
from emulator.vfio_user.errors import VfioUserError
from emulator.vfio_user.messages import PciRegion, RegionFlag

_LOG = logging.getLogger("dmabed.endpoint")
_CONFIG = int(PciRegion.CONFIG)
_ACCESS = RegionFlag.READ | RegionFlag.WRITE
_WORD_SIZES = frozenset((1, 2, 4, 8))
_ERRORS_LOGGED = 10  # a device that fails in every step would fill the disk


class Endpoint:
    """Implements :class:`emulator.vfio_user.device.Device` for ``device``.

    Args:
        device: its ``attach`` is called here.
        name: of the device, in the ledger and in messages.
        ledger: the device joins it.
        latency: how long maps and unmaps take; ``endpoint.latency`` may be set at any time.
        clock: ns now, for register accesses; the session gives the time of everything else.
        allow_unsealed: see :class:`~emulator.vfio_user.backing.GuestMemory`.
        notify: signals an event descriptor.

    A bug of ``device``, that is an exception out of it, is counted in ``device_errors`` (and the
    first ones are logged); the access reads as ones or does nothing; the client is served on.

    Raises:
        BadDeviceError: the device's attributes do not make a PCI function.
    """

    def __init__(
        self,
        device: PciDevice,
        name: str,
        ledger: Ledger,
        latency: LatencyModel,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        allow_unsealed: bool = False,
        notify: Callable[[int], None] | None = None,
    ) -> None:
        self.device, self.name, self.latency = device, name, latency
        self.function = PciFunction(device, self)
        self.space = AddressSpace(name)
        self.memory = GuestMemory(allow_unsealed)
        self.gate = DmaGate()
        self.ledger: DeviceLedger = ledger.device(name)
        self.dma = SpaceDma(self.space, self.ledger, self.gate)
        self.irqs = IrqLines(self.function.msix, notify or _signal)
        self.device_errors = 0
        self.touched = True
        self._clock = clock
        self._regions = self._describe_regions()
        # Plain BARs: those whose accesses are the device's, and not MSI-X's.
        has_msix = device.msix_vectors > 0
        self._device_bars = frozenset(self.function.bars) - ({MSIX_BAR} if has_msix else set())
        self._has_tlb = device.has_tlb
        self.ledger.provides(Signal.CFG, Signal.IRQ)
        device.attach(self.dma, self.function.msix, self.ledger)

    # ------------------------------------------------------------------ what the edge calls
    def step(self, now_ns: int) -> int | None:
        """Lets the device work; returns when to call again at the latest, as its ``step`` does.

        Sets ``touched`` to False; what reaches the device sets it to True, but for maps,
        unmaps and, where the device says so, reads.
        """
        self.touched = False
        self.dma.now_ns = now_ns
        try:
            return self.device.step(now_ns)
        except Exception as error:
            self._device_failed(error)
            return None

    def reach_by_messages(self, remote: RemoteMemory | None) -> None:
        """Memory that comes without a file is reached through ``remote`` from now on."""
        self.dma.remote = remote

    # ------------------------------------------------------------------ emulator.pci.function.Host
    def deliver(self, vector: int) -> None:
        """See :meth:`emulator.pci.function.Host.deliver`."""
        fact = Interrupted(vector, self.device.queue_of(vector))
        self.ledger.tell(self.dma.now_ns, fact)
        self.irqs.signal(vector)

    def gate_changed(self, is_open: bool, why: str, now_ns: int) -> None:
        """See :meth:`emulator.pci.function.Host.gate_changed`."""
        self.gate.set(is_open, why)
        self.ledger.gate_changed(now_ns, is_open, why)

    def was_reset(self, now_ns: int) -> None:
        """See :meth:`emulator.pci.function.Host.was_reset`."""
        self.ledger.reset(now_ns)

    # ------------------------------------------------------------------ descriptions
    def info(self) -> DeviceInfo:
        """9 regions, 5 interrupt types, can be reset."""
        return DeviceInfo()

    def region(self, index: int) -> RegionInfo:
        """BARs and configuration space; there is no ROM and no VGA."""
        return self._regions[index]

    def irq(self, index: int) -> IrqInfo:
        """No INTx, no MSI; as many MSI-X as the device has; one each for errors and removal."""
        return self.irqs.describe(index)

    def _describe_regions(self) -> list[RegionInfo]:
        regions = [RegionInfo()] * len(PciRegion)
        for index, bar in self.function.bars.items():
            regions[index] = RegionInfo(bar.size, _ACCESS)
        regions[_CONFIG] = RegionInfo(CONFIG_SIZE, _ACCESS)
        return regions

    # ------------------------------------------------------------------ register accesses
    def region_write(self, index: int, offset: int, data: memoryview | bytes) -> None:
        """Writes a BAR or configuration space; dropped while the function does not decode BARs."""
        now_ns = self.dma.now_ns = self._clock()
        self.touched = True
        size = len(data)
        try:
            if index in self._device_bars and size in _WORD_SIZES and not offset & (size - 1):
                if self.function.mmio_on:
                    value = int.from_bytes(data, "little")
                    self.device.mmio_write(index, offset, value, size, now_ns)
            elif index == _CONFIG:
                self.function.config_write(offset, bytes(data), now_ns)
            elif self.function.mmio_on:
                self._write_slowly(index, offset, bytes(data), now_ns)
        except Exception as error:
            self._device_failed(error)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Reads a BAR or configuration space; ones while the function does not decode BARs."""
        if index == _CONFIG:
            return self.function.config_read(offset, count)
        if not self.function.mmio_on or index not in self.function.bars:
            return b"\xff" * count
        if index not in self._device_bars:
            return self.function.msix.read(offset, count)
        self.dma.now_ns = self._clock()
        self.touched |= self.device.reads_matter
        try:
            return b"".join(
                (self.device.mmio_read(index, at, size) & (1 << 8 * size) - 1).to_bytes(
                    size, "little"
                )
                for at, size in _words(offset, count)
            )
        except Exception as error:
            self._device_failed(error)
            return b"\xff" * count

    def _write_slowly(self, index: int, offset: int, data: bytes, now_ns: int) -> None:
        """MSI-X, and what is not one aligned word: the device gets several, as from a bus."""
        if index in self._device_bars:
            for at, size in _words(offset, len(data)):
                value = int.from_bytes(data[at - offset : at - offset + size], "little")
                self.device.mmio_write(index, at, value, size, now_ns)
        elif index in self.function.bars:
            for vector, live in self.function.msix.addressed(offset, len(data)):
                self.ledger.tell(now_ns, TableWritten(vector, live))
            self.function.msix.write(offset, data)

    def _device_failed(self, error: Exception) -> None:
        """A refused DMA that the device let through is no bug: the ledger has it already."""
        if isinstance(error, DmaFault):
            _LOG.debug("%s: %s", self.name, error)
            return
        self.device_errors += 1
        if self.device_errors <= _ERRORS_LOGGED:
            _LOG.error("%s: the device raised an exception", self.name, exc_info=error)

    # ------------------------------------------------------------------ mappings
    def dma_map(
        self,
        iova: int,
        size: int,
        readable: bool,
        writable: bool,
        offset: int,
        fd: int | None,
        now_ns: int,
    ) -> int:
        """See :meth:`emulator.vfio_user.device.Device.dma_map`: usable at once."""
        memory = None if fd is None else self.memory.attach(fd, offset + size, writable)
        try:
            mapping = self.space.map(iova, size, memory, offset, readable, writable, now_ns)
        except MappingError as error:
            raise VfioUserError(error.errno, str(error)) from error
        self.ledger.mapped(now_ns, mapping)
        return self.latency.map_delay_ns(size >> PAGE_SHIFT)

    def dma_unmap_begin(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> int:
        """See :meth:`emulator.vfio_user.device.Device.dma_unmap_begin`."""
        if unmap_all:
            iova, size = 0, IOVA_END
        whole = self.space.find(iova)
        if whole is not None and whole.iova == iova and whole.size == size:
            pages = size >> PAGE_SHIFT
        else:
            self._refuse_cut(iova, size)
            pages = sum(m.size for m in self.ledger.live.within(iova, size)) >> PAGE_SHIFT
        self.ledger.unmap_requested(now_ns, iova, size)
        return self.latency.unmap_delay_ns(pages)

    def dma_unmap_finish(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> None:
        """See :meth:`emulator.vfio_user.device.Device.dma_unmap_finish`."""
        removed = (
            self.space.unmap_all(now_ns) if unmap_all else self.space.unmap(iova, size, now_ns)
        )
        if self._has_tlb and removed:
            gone = [(mapping.iova, mapping.size) for mapping in removed]
            self.device.invalidate([(0, IOVA_END)] if unmap_all else gone)
        self.ledger.unmapped(now_ns, removed)

    def _refuse_cut(self, iova: int, size: int) -> None:
        """Refuses a range that begins or ends inside a mapping."""
        for edge in (iova, iova + size):
            cut = self.space.find(edge) if edge < IOVA_END else None
            if cut is not None and cut.iova < edge:
                text = f"{self.name}: unmap of {iova:#x}+{size:#x} would cut {cut}"
                raise VfioUserError(PartialUnmapError.errno, text)

    # ------------------------------------------------------------------ the rest of the protocol
    def set_irqs(self, request: IrqSet) -> None:
        """See :meth:`emulator.vfio_user.device.Device.set_irqs`."""
        change = change_asked(request, self.function.msix.vectors)
        if change is not None:
            self.ledger.tell(self._clock(), change)
        self.irqs.apply(request)

    def reset(self, now_ns: int) -> None:
        """DEVICE_RESET is a function-level reset."""
        self.touched = True
        self.dma.now_ns = now_ns
        try:
            self.function.reset(now_ns)
        except Exception as error:
            self._device_failed(error)

    def closed(self, reason: str, now_ns: int) -> None:
        """The client is gone: no interrupt, no DMA and no mapping outlives it."""
        _LOG.info("%s: the client is gone: %s", self.name, reason)
        self.irqs.close()
        vectors = tuple(range(self.function.msix.vectors))
        self.ledger.tell(now_ns, VectorsChanged(vectors, enabled=False, masked=False))
        self.reset(now_ns)
        self.ledger.closed(now_ns)
        self.space.unmap_all(now_ns)
        self.dma.forget()
        for memory in list(self.space.memories.values()):
            self.space.forget(memory)
        self.memory.release()


def _words(offset: int, count: int) -> list[tuple[int, int]]:
    """``count`` bytes at ``offset`` as (offset, size) of naturally aligned words up to 8 bytes."""
    if count in _WORD_SIZES and not offset & (count - 1):
        return [(offset, count)]
    words, end = [], offset + count
    while offset < end:
        size = min(offset & -offset or 8, 8)
        while size > end - offset:
            size >>= 1
        words.append((offset, size))
        offset += size
    return words


def _signal(fd: int) -> None:
    """Signals an event descriptor; what a client passed off as one is its own loss."""
    with contextlib.suppress(OSError):
        os.eventfd_write(fd, 1)


class ClientMemory:
    """Guest memory that came without a file, by DMA_READ and DMA_WRITE to the client.

    read(iova, length), write(iova, data): of :class:`emulator.vfio_user.server.Server`.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], write: Callable[[int, bytes], None]
    ) -> None:
        self._read, self._write = read, write

    def dma_read(self, iova: int, length: int) -> bytes:
        """``length`` bytes; DmaFault if the client refuses, or does not answer."""
        try:
            return self._read(iova, length)
        except DmabedError as error:
            raise DmaFault(iova, length, False, str(error)) from error

    def dma_write(self, iova: int, data: bytes) -> None:
        """Writes ``data``; DmaFault as for :meth:`dma_read`."""
        try:
            self._write(iova, data)
        except DmabedError as error:
            raise DmaFault(iova, len(data), True, str(error)) from error
