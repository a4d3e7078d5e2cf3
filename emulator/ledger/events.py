# SPDX-License-Identifier: MIT
"""The timeline: what happened to every device, in the order it was told, 48 bytes an event.

Events are appended to a chunk; full chunks go to a spill callback (the edge writes a file) or are
kept up to a bound and then dropped, oldest first. Counts by kind are exact in either case.
"""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.kernel import loop

CHUNK_EVENTS = 1 << 14
U64 = (1 << 64) - 1


class EventKind(IntEnum):
    """What an event tells; ``extra`` means what is said here, 0 otherwise."""

    MAP = 1  # extra: offset of the page in guest memory
    UNMAP_REQUEST = 2
    UNMAP = 3  # extra: ns that the mapping lived
    READ = 4  # an access that was made
    WRITE = 5
    READ_REFUSED = 6
    WRITE_REFUSED = 7
    GATE = 8  # extra: 1 open, 0 closed
    RESET = 9
    CLOSED = 10
    RING_STARTED = 11  # extra: queue << 8 | ring
    RING_STOPPED = 12  # extra: queue << 8 | ring
    POSTED = 13  # extra: queue << 8 | ring; one event a batch: iova of the first, size: count
    RETURNED = 14  # as POSTED
    PACKETS = 15  # size: count, extra: queue << 8 | ring
    MARK = 16  # extra: number of the mark's name
    GUEST_UNMAP = 17  # the guest's own time
    VIOLATION = 18  # extra: number of the rule
    NOTE = 19  # extra: what the driver wrote to the NOTE register
    ARMED = 20  # extra: queue; iova, size: counts, see emulator.ledger.facts.Armed
    INTERRUPT = 21  # extra: vector
    GUEST_MAP = 22  # the guest's own time; extra: guest physical address
    GUEST_SAID = 23  # extra: number of the name of the fact (see emulator.ledger.facts)
    MAP_REFUSED = 24  # by order


EVENT = np.dtype(
    [
        ("time_ns", "<i8"),
        ("iova", "<u8"),
        ("size", "<u8"),
        ("generation", "<u8"),
        ("extra", "<u8"),
        ("device", "<u4"),
        ("kind", "<u4"),
    ]
)
_pack = struct.Struct("<qQQQQII").pack_into
_BYTES = EVENT.itemsize


@loop
def _fill(
    words: NDArray[np.int64],
    used: int,
    now_ns: int,
    iovas: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    first: int,
    kind_device: int,
) -> int:
    """Writes events from row ``used`` on for the accesses from ``first`` on; returns how many.

    words: int64[CHUNK_EVENTS, 6], a chunk as its members lie in memory (little endian).
    """
    count = min(len(iovas) - first, len(words) - used)
    for i in range(count):
        words[used + i, 0] = now_ns
        words[used + i, 1] = np.int64(iovas[first + i])
        words[used + i, 2] = sizes[first + i]
        words[used + i, 5] = kind_device
    return count


Spill = Callable[[NDArray[Any]], None]


class Timeline:
    """Events of all devices of a ledger.

    Args:
        keep_events: at most so many stay in memory (rounded up to whole chunks).
        spill: given each full chunk (a structured array of :data:`EVENT`) instead of keeping it.
        accesses: False keeps single accesses out of the record (their counts stay exact).
    """

    def __init__(
        self, keep_events: int = 1 << 20, spill: Spill | None = None, accesses: bool = True
    ) -> None:
        self.counts = [0] * (max(EventKind) + 1)
        self.accesses = accesses
        self.dropped = 0
        self.spilled = 0
        self._spill = spill
        self._keep = max(1, -(-keep_events // CHUNK_EVENTS))
        self._chunks: deque[NDArray[Any]] = deque()
        self._names: dict[str, int] = {}
        self._new_chunk()

    def add(
        self,
        now_ns: int,
        device: int,
        kind: int,
        iova: int = 0,
        size: int = 0,
        generation: int = 0,
        extra: int = 0,
    ) -> None:
        """Appends one event; ``size`` of 2^64 is recorded as 2^64 - 1."""
        if self._used == CHUNK_EVENTS:
            self._turn()
        if size > U64:
            size = U64
        _pack(
            self._buffer, self._used * _BYTES, now_ns, iova, size, generation, extra, device, kind
        )
        self._used += 1
        self.counts[kind] += 1

    def add_batch(
        self,
        now_ns: int,
        device: int,
        kind: int,
        iovas: NDArray[np.uint64],
        sizes: NDArray[np.int64],
    ) -> None:
        """Appends one event for each of ``iovas`` (uint64[n]) and ``sizes`` (int64[n])."""
        self.counts[kind] += len(iovas)
        if not self.accesses:
            return
        done, count = 0, len(iovas)
        while done < count:
            if self._used == CHUNK_EVENTS:
                self._turn()
            added = _fill(self._words, self._used, now_ns, iovas, sizes, done, kind << 32 | device)
            self._used += added
            done += added

    def name_number(self, name: str) -> int:
        """The number that stands for a mark's name in ``extra``."""
        return self._names.setdefault(name, len(self._names))

    @property
    def names(self) -> list[str]:
        """Names of marks by number."""
        return list(self._names)

    def __len__(self) -> int:
        """Events kept in memory."""
        return sum(map(len, self._chunks)) + self._used

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The kept events in order, as structured arrays of :data:`EVENT`."""
        yield from self._chunks
        yield self._rows[: self._used]

    def to_array(self) -> NDArray[Any]:
        """All kept events: a copy."""
        return np.concatenate(list(self.chunks()))

    def to_npz(self, devices: list[str]) -> bytes:
        """A compressed .npz file: ``events``, and the names of devices, kinds and marks."""
        out = io.BytesIO()
        kinds = np.array([f"{kind.value} {kind.name}" for kind in EventKind])
        np.savez_compressed(
            out,
            events=self.to_array(),
            devices=np.array(devices, dtype=np.str_),
            kinds=kinds,
            marks=np.array(self.names, dtype=np.str_),
        )
        return out.getvalue()

    def to_csv(self, devices: list[str]) -> bytes:
        """A text table with a header line; IOVAs in hexadecimal."""
        lines = ["time_ns,device,kind,iova,size,generation,extra"]
        kinds = {kind.value: kind.name for kind in EventKind}
        for chunk in self.chunks():
            for time_ns, iova, size, generation, extra, device, kind in chunk.tolist():
                lines.append(
                    f"{time_ns},{devices[device]},{kinds[kind]},{iova:#x},{size},{generation},{extra}"
                )
        return ("\n".join(lines) + "\n").encode()

    def flush(self) -> None:
        """Hands what is left to the spill callback, if there is one."""
        if self._used and self._spill is not None:
            self._turn()

    def _new_chunk(self) -> None:
        self._rows = np.zeros(CHUNK_EVENTS, EVENT)
        self._buffer = self._rows.data.cast("B")
        self._words = self._rows.view(np.int64).reshape(CHUNK_EVENTS, -1)
        self._used = 0

    def _turn(self) -> None:
        full = self._rows[: self._used]
        self._new_chunk()
        if self._spill is not None:
            self.spilled += len(full)
            self._spill(full)
            return
        self._chunks.append(full)
        if len(self._chunks) >= self._keep + 1:
            self.dropped += len(self._chunks.popleft())
