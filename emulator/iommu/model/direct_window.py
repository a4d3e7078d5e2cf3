# SPDX-License-Identifier: MIT
"""A window through which a device reaches all memory, mapped once when the driver probes.

Power's dynamic DMA window in its direct form; the pass-through of other IOMMUs is the same with an
offset of 0. Map is an addition, unmap does nothing: both are free, and all of memory is exposed
all the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import WindowError
from emulator.iommu.model.tce import TceTable

PAGE_SHIFTS = (12, 16, 21, 24, 25, 26, 27, 28, 34)

Addresses = NDArray[np.int64]


@dataclass(slots=True)
class DirectWindow:
    """Window of ``memory_bytes`` at IOVA ``base``, in pages of 2 to the ``page_shift`` bytes.

    Raises:
        WindowError: a page size that the platform has not, a base that is not aligned to it, or
            no memory.
    """

    memory_bytes: int
    base: int = 1 << 59
    page_shift: int = 24
    maps: int = field(default=0, init=False)
    unmaps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.page_shift not in PAGE_SHIFTS:
            raise WindowError(f"page_shift {self.page_shift}: there are {PAGE_SHIFTS}")
        if self.memory_bytes < 1 or self.base < 0 or self.base % (1 << self.page_shift):
            raise WindowError(
                f"{self.memory_bytes} bytes at {self.base:#x}: needs memory, and a base that is a "
                f"multiple of {1 << self.page_shift:#x}"
            )

    @property
    def exposed_bytes(self) -> int:
        """What the device reaches, from probe to removal: everything."""
        return self.memory_bytes

    def open(self, now_ns: int, table: TceTable) -> int:
        """When the probe at ``now_ns`` has entered all of memory into ``table``."""
        pages = -(-self.memory_bytes // (1 << self.page_shift))
        return table.map(now_ns, np.array([pages], np.int64))

    def map(self, addresses: Addresses) -> Addresses:
        """IOVAs of the physical ``addresses`` (bytes, shape (n,)): a sum each, no time.

        Raises:
            WindowError: one lies outside of memory.
        """
        if addresses.size and not (
            int(addresses.min()) >= 0 and int(addresses.max()) < self.memory_bytes
        ):
            raise WindowError(f"an address is outside of the {self.memory_bytes} bytes of memory")
        self.maps += len(addresses)
        return addresses + self.base

    def unmap(self, iovas: Addresses) -> None:
        """Does nothing but count: the device reaches ``iovas`` as before."""
        self.unmaps += len(iovas)
