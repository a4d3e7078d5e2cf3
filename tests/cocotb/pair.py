# SPDX-License-Identifier: MIT
"""A driver just able to pass frames: one queue pair of the rig."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from emulator.nic import registers as r
from emulator.nic.descriptors import COMPLETION, RX_DESC, TX_DESC
from emulator.rtl.tlp import PAGE

if TYPE_CHECKING:
    from tests.cocotb.rig import Rig

LOG2 = 6
RX_RING, RX_CQ, TX_RING, TX_CQ = 0x0010_0000, 0x0010_1000, 0x0020_0000, 0x0020_1000
APART = 0x0100_0000
"""From a ring of one queue pair to that of the next."""


class Pair:
    """Queue pair ``queue`` of ``rig``: rings in IOVAs of their own, what was posted and seen."""

    def __init__(self, rig: Rig, queue: int) -> None:
        self._rig, self.queue, self.base = rig, queue, r.qp_base(queue)
        self.rx_ring, self.rx_cq = RX_RING + queue * APART, RX_CQ + queue * APART
        self.tx_ring, self.tx_cq = TX_RING + queue * APART, TX_CQ + queue * APART
        self.rings = (self.rx_ring, self.rx_cq, self.tx_ring, self.tx_cq)
        self._forget()

    def _forget(self) -> None:
        self.rx_posted = self.tx_posted = self.rx_seen = self.tx_seen = 0
        self._posted: deque[tuple[int, int]] = deque()

    async def bring_up(self) -> None:
        """Rings empty and running."""
        self._forget()
        for iova in (self.rx_cq, self.tx_cq):
            self._rig.poke(iova, bytes(PAGE))
        for side, ring, cq in (
            ("RX", self.rx_ring, self.rx_cq),
            ("TX", self.tx_ring, self.tx_cq),
        ):
            for name, value in (("RING_LO", ring), ("CQ_LO", cq), ("SIZE", LOG2), ("CTRL", 1)):
                await self.write(f"{side}_{name}", value)

    async def write(self, name: str, value: int) -> None:
        """A register of the queue pair, without its prefix."""
        await self._rig.device.write(self.base + getattr(r, f"DMABED_QP_{name}"), value)

    async def post_rx(self, *buffers: tuple[int, int]) -> None:
        """Hands over buffers (IOVA, bytes)."""
        for iova, length in buffers:
            slot = self.rx_posted % (1 << LOG2)
            desc = RX_DESC.struct.build({"addr": iova, "len": length, "id": slot, "rsvd": 0})
            self._rig.poke(self.rx_ring + 16 * slot, desc)
            self._posted.append((iova, length))
            self.rx_posted += 1
        await self.write("RX_TAIL", self.rx_posted)

    async def post_tx(self, *pieces: tuple[int, int]) -> None:
        """Sends one frame made of ``pieces`` (IOVA, bytes)."""
        for iova, length in pieces:
            slot = self.tx_posted % (1 << LOG2)
            last = int((iova, length) == pieces[-1])
            desc = TX_DESC.struct.build({"addr": iova, "len": length, "id": slot, "flags": last})
            self._rig.poke(self.tx_ring + 16 * slot, desc)
            self.tx_posted += 1
        await self.write("TX_TAIL", self.tx_posted)

    def _completion(self, cq: int, seen: int) -> Any:
        entry = COMPLETION.struct.parse(self._rig.peek(cq + 16 * (seen % (1 << LOG2)), 16))
        return entry if entry.status & 1 == 1 - (seen >> LOG2 & 1) else None

    async def received(self, limit: int = 6000) -> tuple[bytes, list[Any]]:
        """The next frame, from its buffers, and its completions."""
        data, entries = b"", []
        for _ in range(limit):
            entry = self._completion(self.rx_cq, self.rx_seen)
            if entry is None:
                await self._rig.cycles(4)
                continue
            iova, _ = self._posted.popleft()
            data += self._rig.peek(iova, entry.len)
            entries.append(entry)
            self.rx_seen += 1
            if entry.status & 2:
                return data, entries
        raise TimeoutError(f"queue {self.queue}: no receive completion; {self._rig.state()}")

    async def sent(self, limit: int = 6000) -> Any:
        """The next transmit completion."""
        for _ in range(limit):
            entry = self._completion(self.tx_cq, self.tx_seen)
            if entry is not None:
                self.tx_seen += 1
                return entry
            await self._rig.cycles(4)
        raise TimeoutError(f"queue {self.queue}: no transmit completion; {self._rig.state()}")

    async def round_trip(self, iova: int, length: int) -> None:
        """One frame in to ``iova`` and one out from there, compared byte by byte."""
        rig = self._rig
        data, frame = rig.check_data(), rig.bytes(length)
        await self.post_rx((iova, length))
        await rig.wire(frame, self.queue)
        data.compare(f"receive at {iova:#x}", (await self.received())[0], frame)
        frame = rig.bytes(length)
        rig.poke(iova, frame)
        await self.post_tx((iova, length))
        await self.sent()
        data.compare(f"transmit from {iova:#x}", await rig.sent_frame(frame), frame)
