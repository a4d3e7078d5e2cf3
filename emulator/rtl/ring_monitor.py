# SPDX-License-Identifier: MIT
"""Tells a ledger what the device owns, from registers, fetches and completions alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from emulator.nic import registers as r
from emulator.nic.descriptors import COMPLETION, RX_DESC, TX_DESC, Layout
from emulator.ports import Observer, RingKind

KINDS: Final[Mapping[str, tuple[RingKind, RingKind, Layout]]] = MappingProxyType(
    {
        "RX": (RingKind.RX_DESC, RingKind.RX_CQ, RX_DESC),
        "TX": (RingKind.TX_DESC, RingKind.TX_CQ, TX_DESC),
    }
)
"""Side -> its two rings, and the layout of its descriptors."""


@dataclass
class Side:
    """One ring as its registers and its traffic show it."""

    registers: dict[str, int] = field(default_factory=dict)
    running: bool = False
    fetched: list[tuple[int, int]] = field(default_factory=list)

    def wide(self, name: str) -> int:
        """A register of two halves."""
        return self.registers.get(f"{name}_HI", 0) << 32 | self.registers.get(f"{name}_LO", 0)

    @property
    def span(self) -> int:
        """Bytes of either ring."""
        return RX_DESC.size << self.registers.get("SIZE", 0)


class RingMonitor:
    """``queues`` queue pairs, for ``observer``; ``clock``: ns now.

    latest: what was last written to each offset.
    """

    def __init__(self, observer: Observer, clock: Callable[[], int], queues: int = 1) -> None:
        self._observer, self._clock = observer, clock
        self.latest: dict[int, int] = {}
        self.sides = {(queue, kind): Side() for queue in range(queues) for kind in KINDS}
        self._names = {
            r.qp_base(queue) + getattr(r, f"DMABED_QP_{kind}_{name}"): (queue, kind, name)
            for queue, kind in self.sides
            for name in ("RING_LO", "RING_HI", "CQ_LO", "CQ_HI", "SIZE", "CTRL")
        }

    def written(self, offset: int, value: int) -> None:
        """The driver wrote a register."""
        self.latest[offset] = value
        if offset == r.DMABED_NOTE:
            self._observer.note(self._clock(), value)
        if offset == r.DMABED_CTRL and value & r.DMABED_CTRL_RESET:
            self.reset()
        queue, side_name, name = self._names.get(offset, (0, "", ""))
        if not side_name:
            return
        side = self.sides[queue, side_name]
        if name != "CTRL":
            side.registers[name] = value
        elif value & 1 and not side.running:
            side.running = True
            side.fetched.clear()
            desc, cq, _ = KINDS[side_name]
            for kind, register in ((desc, "RING"), (cq, "CQ")):
                base, now_ns = side.wide(register), self._clock()
                self._observer.ring_started(now_ns, queue, kind, base, side.span)

    def read(self, offset: int, value: int) -> None:
        """The driver read a register, and may have learned that a ring has stopped."""
        queue, side_name, name = self._names.get(offset, (0, "", ""))
        if name == "CTRL" and not value:
            self._stop(queue, side_name)

    def reset(self) -> None:
        """The device was reset, or was told to: nothing is its any more once it says ready."""
        for queue, name in self.sides:
            self._stop(queue, name)

    def _stop(self, queue: int, name: str) -> None:
        side = self.sides[queue, name]
        if side.running:
            side.running = False
            for kind in KINDS[name][:2]:
                self._observer.ring_stopped(self._clock(), queue, kind)

    def fetched(self, iova: int, data: bytes) -> None:
        """The device read ``data`` at ``iova``."""
        for (queue, name), side in self.sides.items():
            if side.running and side.wide("RING") <= iova < side.wide("RING") + side.span:
                kind, _, layout = KINDS[name]
                rows: Any = np.frombuffer(data, layout.dtype)
                iovas, lengths = rows["addr"].copy(), rows["len"].astype(np.int64)
                self._observer.posted(self._clock(), queue, kind, iovas, lengths)
                side.fetched += zip(iovas.tolist(), lengths.tolist(), strict=True)

    def completing(self, iova: int, data: bytes) -> None:
        """The device is about to write ``data`` at ``iova``."""
        for (queue, name), side in self.sides.items():
            if side.running and side.wide("CQ") <= iova < side.wide("CQ") + side.span:
                entry = COMPLETION.struct.parse(data)
                count = entry.len if name == "TX" else 1
                gone, side.fetched = side.fetched[:count], side.fetched[count:]
                iovas = np.array([i for i, _ in gone], np.uint64)
                lengths = np.array([n for _, n in gone], np.int64)
                desc, cq, _ = KINDS[name]
                self._observer.returned(self._clock(), queue, desc, iovas, lengths)
                good = int(entry.status & 2 == 2 and not entry.status & 8)
                self._observer.packets(self._clock(), queue, cq, good)
