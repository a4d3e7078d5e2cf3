# SPDX-License-Identifier: MIT
"""A NIC that works like any other until its driver gives its memory back; then it writes there.

It knows what hardware knows: the IOVAs that it was ever given, when its driver said that all memory
was given back, and whether a write was refused. It sees neither the ledger nor the mappings.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.nic_device import NicDevice
from emulator.ports import DmaPort, IrqPort, Observer, RingKind

NOTE_GAVE_BACK = 2
CANARY = struct.Struct("<QQQ")
MAGIC = 0xDBED_A77A_C4ED_0001
_PAGE = 4096
_OFFSET = 2048
_LIMIT_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Attack:
    """What came of it; times in ns from the note that all memory was given back.

    targets: pages that were posted while the driver was up. hit: of them, those that could still be
    written at least once. writes: canaries that were accepted. windows: for each page that was hit,
    when its last write was accepted. over: every page has refused a write, or time is up.
    """

    targets: int
    hit: int
    writes: int
    windows: tuple[int, ...]
    over: bool


NOTHING = Attack(0, 0, 0, (), True)


class Spy:
    """An observer that remembers what was posted, and tells when the memory was given back."""

    def __init__(self, observer: Observer, attacker: AttackNic) -> None:
        self._observer, self._attacker = observer, attacker

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """See :class:`emulator.ports.Observer`."""
        self._observer.posted(now_ns, queue, kind, iovas, lengths)
        if kind is RingKind.RX_DESC:
            self._attacker.seen.update((iovas // np.uint64(_PAGE)).tolist())

    def note(self, now_ns: int, value: int) -> None:
        """See :class:`emulator.ports.Observer`."""
        self._observer.note(now_ns, value)
        if value == NOTE_GAVE_BACK:
            self._attacker.begin(now_ns)

    def __getattr__(self, name: str) -> object:
        return getattr(self._observer, name)


class AttackNic(NicDevice):
    """The NIC; ``armed`` says whether the next return of memory starts an attack."""

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Puts a spy between the NIC and whoever watches it."""
        self.seen: set[int] = set()
        self.armed = False
        self._left: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._since_ns = self._writes = self._targets = 0
        self._last: dict[int, int] = {}
        spy: Observer = Spy(observer, self)  # type: ignore[assignment]
        super().attach(dma, irq, spy)

    def begin(self, now_ns: int) -> None:
        """The driver says that it has given all memory back."""
        if not self.armed or not self.seen:
            return
        self.armed = False
        self._left = np.array(sorted(self.seen), np.uint64) * np.uint64(_PAGE) + np.uint64(_OFFSET)
        self._targets, self._since_ns, self._writes = len(self._left), now_ns, 0
        self._last.clear()
        self.seen.clear()

    def step(self, now_ns: int) -> int | None:
        """As a NIC; and while pages are left that take writes, at once again."""
        due = super().step(now_ns)
        if not len(self._left):
            return due
        after_ns = max(now_ns - self._since_ns, 0)
        if after_ns > _LIMIT_NS:
            self._left = self._left[:0]
            return due
        frames = FrameBatch.of([CANARY.pack(MAGIC, iova, after_ns) for iova in self._left.tolist()])
        landed = self.dma.scatter(self._left, frames)
        self._left = self._left[landed]
        self._writes += len(self._left)
        self._last.update(dict.fromkeys(self._left.tolist(), after_ns))
        return now_ns if len(self._left) else due

    @property
    def result(self) -> Attack:
        """The attack that was begun last."""
        windows = tuple(sorted(self._last.values()))
        return Attack(self._targets, len(windows), self._writes, windows, not len(self._left))
