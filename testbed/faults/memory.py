# SPDX-License-Identifier: MIT
"""X-57 in-process: the host's page allocator fails while the driver fills and rebuilds rings."""

from __future__ import annotations

from driver.model.inprocess import Machine
from driver.model.memory import HostPages
from emulator.faults.fault import Outcome
from pool.buffers import PfnArray

EVERY = 3


class NoMemory:
    """Puts an allocator that fails each third request in place of ``machine``'s, while armed."""

    number, name = "X-57", "no-memory"
    shows = "what cannot be had now is had later; a ring that cannot be built leaves the old one"
    expect = frozenset({Outcome.SURVIVED, Outcome.DETECTED})

    def __init__(self, machine: Machine) -> None:
        self._machine, self._pages = machine, machine.pages
        self.failures = 0

    def arm(self, now_ns: int) -> None:
        """Memory gets short."""
        machine, pages, outer = self._machine, self._pages, self

        class Short(HostPages):
            def __init__(self) -> None:
                self.__dict__.update(pages.__dict__)
                self._requests = 0

            def _fails(self) -> bool:
                self._requests += 1
                outer.failures += self._requests % EVERY == 0
                return self._requests % EVERY == 0

            def alloc_pages(self, count: int, order: int = 0) -> PfnArray:
                return super().alloc_pages(0 if self._fails() else count, order)

            def alloc_block(self, count: int, align: int = 1) -> int | None:
                return None if self._fails() else super().alloc_block(count, align)

        machine.pages = Short()

    def disarm(self, now_ns: int) -> None:
        """There is enough again."""
