# SPDX-License-Identifier: MIT
"""The state of one ring: counts, the descriptors fetched so far, and the phase of completions.

Arithmetic only: whoever does the DMA asks here where, and stores here what came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DmabedError
from emulator.kernel import loop
from emulator.nic.config import RING_LOG2_MIN
from emulator.nic.descriptors import RX_DESC, Layout

COUNT_MASK: Final = 0xFFFF_FFFF
IOVA_END: Final = 1 << 64

_HIGH: Final = np.uint64(32)


@dataclass(slots=True)
class Descriptors:
    """``n`` descriptors by column, as the hot path wants them.

    iovas: uint64[n]; lengths: int64[n], bytes; ids: uint16[n]; words: uint32[n], the last member
    (transmit: flags).
    """

    iovas: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    ids: NDArray[np.uint16]
    words: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.iovas)

    def __getitem__(self, rows: slice) -> Descriptors:
        return Descriptors(self.iovas[rows], self.lengths[rows], self.ids[rows], self.words[rows])

    def followed_by(self, other: Descriptors) -> Descriptors:
        """These and then ``other``, copied."""
        return Descriptors(
            np.concatenate((self.iovas, other.iovas)),
            np.concatenate((self.lengths, other.lengths)),
            np.concatenate((self.ids, other.ids)),
            np.concatenate((self.words, other.words)),
        )

    @classmethod
    def blank(cls, count: int) -> Descriptors:
        """``count`` descriptors, all zero."""
        return cls(
            np.zeros(count, np.uint64),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint16),
            np.zeros(count, np.uint32),
        )


_LENGTH_WORD, _LENGTH_BIT = RX_DESC.place("len")
_ID_WORD, _ID_BIT = RX_DESC.place("id")
_LAST_WORD = RX_DESC.place("rsvd")[0]
"""Both kinds of descriptor have their members, under whatever name, at the same places."""


@loop
def _decode(
    raw: NDArray[np.uint32],
    slot: int,
    iovas: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    ids: NDArray[np.uint16],
    words: NDArray[np.uint32],
) -> int:
    """Puts descriptors as read, uint32[n, words], into the columns from ``slot`` on."""
    for i in range(min(len(raw), len(iovas) - slot)):
        entry = raw[i]
        iovas[slot + i] = np.uint64(entry[0]) | np.uint64(entry[1]) << _HIGH
        lengths[slot + i] = entry[_LENGTH_WORD] >> _LENGTH_BIT & 0xFFFF
        ids[slot + i] = entry[_ID_WORD] >> _ID_BIT & 0xFFFF
        words[slot + i] = entry[_LAST_WORD]
    return 0


class RingError(DmabedError):
    """The driver gave a ring a value that cannot be; the ring has to stop."""


@dataclass(slots=True)
class Run:
    """Consecutive ring entries without a wrap: ``count`` entries from ``slot`` on, at ``iova``."""

    slot: int
    count: int
    iova: int


class Ring:
    """A descriptor ring of ``layout`` and its completion ring of as many entries.

    Counts run since enable and are not reduced: ``head <= fetched <= tail <= head + size``.
    """

    def __init__(self, layout: Layout, log2_max: int) -> None:
        self.entry = layout.size
        """Bytes of an entry."""
        self._log2_max = log2_max
        self.running = False
        self.iova = self.cq_iova = self.log2 = self.size = 0
        self._descs = Descriptors.blank(0)
        self._zero()

    def _zero(self) -> None:
        self.head = self.fetched = self.tail = self.completed = 0

    @property
    def span(self) -> int:
        """Bytes of the descriptor ring; the completion ring has as many."""
        return self.size * self.entry

    @property
    def posted(self) -> int:
        """Descriptors the driver has given and the device has not used."""
        return self.tail - self.head

    @property
    def ready(self) -> int:
        """Descriptors fetched and not used."""
        return self.fetched - self.head

    def start(self, iova: int, cq_iova: int, log2: int) -> None:
        """The ring runs from now on, all counts 0.

        Raises:
            RingError: bad size or alignment; the ring does not run.
        """
        if not RING_LOG2_MIN <= log2 <= self._log2_max:
            raise RingError(
                f"ring of 2^{log2} entries: log2 must be {RING_LOG2_MIN} to {self._log2_max}"
            )
        span = self.entry << log2
        for base in (iova, cq_iova):
            if base % self.entry or base + span > IOVA_END:
                raise RingError(
                    f"ring of {span} bytes at IOVA {base:#x}: must be aligned to {self.entry} "
                    "bytes and end within 64 bits"
                )
        self.iova, self.cq_iova, self.log2, self.size = iova, cq_iova, log2, 1 << log2
        self._descs = Descriptors.blank(self.size)
        self._zero()
        self.running = True

    def stop(self) -> None:
        """The ring runs no more. Its counts stay to be read; what was posted is forgotten."""
        self.running = False
        self.fetched = self.tail = self.head

    def reset(self) -> None:
        """As after power-on."""
        self.running = False
        self._zero()

    def post(self, count: int) -> None:
        """The doorbell: ``count`` descriptors since enable, modulo 2^32.

        Raises:
            RingError: more than the ring has ahead of ``head``, or fewer than before.
        """
        tail = self.tail + ((count - self.tail) & COUNT_MASK)
        if tail - self.head > self.size:
            raise RingError(
                f"doorbell {count:#x} in a ring of {self.size}: must be from the last one, "
                f"{self.tail & COUNT_MASK:#x}, to one ring after {self.head & COUNT_MASK:#x}"
            )
        self.tail = tail

    def to_fetch(self, limit: int) -> Iterator[Run]:
        """Where to read posted descriptors until ``limit`` are ready: at most two runs."""
        count = min(self.tail - self.fetched, limit - self.ready)
        return self._runs(self.fetched, count, self.iova)

    def store(self, run: Run, data: bytes) -> Descriptors:
        """Keeps the descriptors of ``run`` as read; returns them: not to be kept."""
        raw = np.frombuffer(data, np.uint32).reshape(run.count, -1)
        kept = self._descs
        _decode(raw, run.slot, kept.iovas, kept.lengths, kept.ids, kept.words)
        self.fetched += run.count
        return kept[run.slot : run.slot + run.count]

    def peek(self, limit: int) -> Descriptors:
        """The next descriptors to use, at most ``limit`` of those ready. Not to be kept."""
        count = min(self.ready, limit)
        slot = self.head & (self.size - 1)
        if slot + count <= self.size:
            return self._descs[slot : slot + count]
        return self._descs[slot:].followed_by(self._descs[: slot + count - self.size])

    def use(self, count: int) -> None:
        """``count`` descriptors are used up."""
        self.head += count

    def next_completions(self, count: int) -> Iterator[tuple[Run, int]]:
        """Where the next ``count`` completions go, and the phase bit they carry there."""
        index = self.completed
        for run in self._runs(index, count, self.cq_iova):
            yield run, 1 - (index >> self.log2 & 1)
            index += run.count

    def _runs(self, index: int, count: int, base: int) -> Iterator[Run]:
        slot = index & (self.size - 1)
        while count > 0:
            part = min(count, self.size - slot)
            yield Run(slot, part, base + slot * self.entry)
            count -= part
            slot = 0
