# SPDX-License-Identifier: MIT
"""X-57 in-process: the host's page allocator fails while the driver fills and rebuilds rings."""

from __future__ import annotations

from driver.model.inprocess import Machine
from driver.model.memory import GuestMemory, HostPages
from emulator.faults.fault import Outcome
from pool.buffers import PfnArray

EVERY = 3


class ShortPages(HostPages):
    """Fails each third request while ``short``; ``failures`` counts them."""

    def __init__(self, memory: GuestMemory, contiguous: int) -> None:
        super().__init__(memory, contiguous)
        self.short, self.failures, self._requests = False, 0, 0

    def alloc_pages(self, count: int, order: int = 0) -> PfnArray:
        """See :class:`pool.interface.PageAllocator`."""
        return super().alloc_pages(0 if self._fails() else count, order)

    def alloc_block(self, count: int, align: int = 1) -> int | None:
        """See :class:`~driver.model.memory.HostPages`."""
        return None if self._fails() else super().alloc_block(count, align)

    def _fails(self) -> bool:
        self._requests += self.short
        fails = self.short and self._requests % EVERY == 0
        self.failures += fails
        return fails


class NoMemory:
    """Puts a :class:`ShortPages` in place of the allocator of ``machine``, which is unused yet."""

    number, name = "X-57", "no-memory"
    shows = "what cannot be had now is had later; a ring that cannot be built leaves the old one"
    expect = frozenset({Outcome.SURVIVED, Outcome.DETECTED})

    def __init__(self, machine: Machine, contiguous: int = 1 << 10) -> None:
        self._pages = ShortPages(machine.memory, contiguous)
        machine.pages = self._pages

    @property
    def failures(self) -> int:
        """Requests that failed."""
        return self._pages.failures

    def arm(self, now_ns: int) -> None:
        """Memory gets short."""
        self._pages.short = True

    def disarm(self, now_ns: int) -> None:
        """There is enough again."""
        self._pages.short = False
