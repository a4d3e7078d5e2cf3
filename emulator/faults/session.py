# SPDX-License-Identifier: MIT
"""A served device whose maps and unmaps can be ordered to go wrong (X-51 to X-53)."""

from __future__ import annotations

from emulator.faults.injector import Injector
from emulator.vfio_user.device import Device
from emulator.vfio_user.errors import VfioUserError


class FaultySession:
    """Implements :class:`emulator.vfio_user.device.Device` for ``device``, by ``injector``.

    An unmap that is answered with an error has taken place all the same.
    """

    def __init__(self, device: Device, injector: Injector) -> None:
        self._device, self._injector = device, injector
        self.info, self.region, self.irq = device.info, device.region, device.irq
        self.region_read, self.region_write = device.region_read, device.region_write
        self.set_irqs, self.reset, self.closed = device.set_irqs, device.reset, device.closed
        self.dma_unmap_finish = device.dma_unmap_finish

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
        """See :class:`~emulator.vfio_user.device.Device`."""
        self._injector.now_ns = now_ns
        try:
            self._injector.maps.mapping(iova, size, now_ns)
        except VfioUserError:
            self._injector.map_refused(iova, size, now_ns)
            raise
        return self._device.dma_map(iova, size, readable, writable, offset, fd, now_ns)

    def dma_unmap_begin(self, iova: int, size: int, unmap_all: bool, now_ns: int) -> int:
        """See :class:`~emulator.vfio_user.device.Device`."""
        delay = self._device.dma_unmap_begin(iova, size, unmap_all, now_ns)
        self._injector.now_ns = now_ns
        try:
            return delay + self._injector.maps.unmapping(iova, size, now_ns)
        except VfioUserError:
            self._device.dma_unmap_finish(iova, size, unmap_all, now_ns)
            raise
