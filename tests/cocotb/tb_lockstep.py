# SPDX-License-Identifier: MIT
"""The Python NIC and the RTL on the same random traffic: memory, counts and frames must agree.

Both start from the same memory, the same mappings and the same rings. The whole of memory is
compared afterwards, so buffers, completions with their phase bits, and what lies beside them.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from emulator.frames import FrameBatch
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger
from emulator.nic import registers as r
from emulator.nic.config import NicConfig
from emulator.nic.descriptors import RX_DESC, TX_DESC
from emulator.nic.nic import Nic
from emulator.rtl.host import HostMemory
from emulator.rtl.tlp import PAGE
from tests.cocotb.pair import LOG2, RX_CQ, RX_RING, TX_CQ, TX_RING
from tests.cocotb.rig import Rig

FIRST = 0x7A5B_3C2D_1000
PAGES = 24
UNMAPPED = 0xDEAD_0000
QP = r.qp_base(0)
COUNTERS = [
    n
    for n in dir(r)
    if n.startswith("DMABED_QP_") and n.endswith(("PACKETS", "BYTES", "DROPS", "ERRORS"))
]
STEP_NS = 1000


class Twin:
    """The NIC in Python on a copy of the rig's memory."""

    def __init__(self, rig: Rig) -> None:
        self.memory = HostMemory(len(rig.memory.array))
        self.memory.array[:] = rig.memory.array
        self.space = AddressSpace("twin")
        for m in rig.space:
            self.space.map(m.iova, m.size, self.memory, m.offset, m.readable, m.writable, 0)
        self.sent: list[bytes] = []
        self._waiting: list[bytes] = []
        ledger = Ledger(lambda: 0).device("twin")
        port = SpaceDma(self.space, None, DmaGate(open=True))
        config = NicConfig(bytes.fromhex("02dbed000001"), queues=1)
        self.nic = Nic(config, port, self, self, ledger)
        self.nic.bus_master(True, 0)
        self.nic.link(True, 0)
        self._now = 0

    def write(self, offset: int, value: int) -> None:
        self.nic.mmio_write(offset, value, 4, self._now)

    def read64(self, offset: int) -> int:
        return self.nic.mmio_read(offset, 8)

    def run(self, frames: list[bytes]) -> None:
        """Takes ``frames`` from the wire and does all there is to do."""
        self._waiting += frames
        for _ in range(100):
            self._now += STEP_NS
            self.nic.step(self._now)
        assert not self._waiting

    def raise_vector(self, vector: int) -> None:
        """Interrupts are not compared."""

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        taken, self._waiting = self._waiting[:room], self._waiting[room:]
        return FrameBatch.of(taken)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        self.sent += list(frames)

    def next_due_ns(self, now_ns: int) -> int | None:
        return now_ns if self._waiting else None


def place(rig: Rig, longest: int) -> tuple[int, int]:
    """A buffer: mostly mapped, anywhere in its page and over its end, seldom not mapped at all."""
    length = rig.rng.randint(40, longest)
    if rig.rng.random() < 0.08:
        return UNMAPPED, length
    return FIRST + rig.rng.randrange(PAGES - 1) * PAGE + rig.rng.randrange(PAGE), length


def fill_rings(rig: Rig, rx: int, tx: list[int]) -> tuple[int, int]:
    """Writes ``rx`` receive descriptors and a frame for each of ``tx`` (its pieces)."""
    for slot in range(rx):
        iova, length = place(rig, 1400)
        desc = RX_DESC.struct.build(
            {"addr": iova, "len": length, "id": slot * 7 & 0xFFFF, "rsvd": 0}
        )
        rig.poke(RX_RING + 16 * slot, desc)
    slot = 0
    for pieces in tx:
        for piece in range(pieces):
            iova, length = place(rig, 800)
            if rig.rng.random() < 0.1:
                length = rig.rng.randint(1, 20)
            end = int(piece == pieces - 1)
            desc = TX_DESC.struct.build(
                {"addr": iova, "len": length, "id": slot + 100, "flags": end}
            )
            rig.poke(TX_RING + 16 * slot, desc)
            slot += 1
    return rx, slot


@cocotb.test()
async def completions_memory_or_statistics_differ_from_the_python_nic(dut: Any) -> None:
    rig = Rig(dut)
    rig.map(FIRST, PAGES)
    for page in range(PAGES):
        rig.poke(FIRST + page * PAGE, rig.bytes(PAGE))
    await rig.start()
    pieces = [rig.rng.randint(1, 4) for _ in range(20)]
    received, sent = fill_rings(rig, 1 << LOG2, pieces)
    twin = Twin(rig)
    for side, ring, cq in (("RX", RX_RING, RX_CQ), ("TX", TX_RING, TX_CQ)):
        for name, value in (("RING_LO", ring), ("CQ_LO", cq), ("SIZE", LOG2), ("CTRL", 1)):
            twin.write(QP + getattr(r, f"DMABED_QP_{side}_{name}"), value)
    for offset, value in ((r.DMABED_RX_FILTER, 1), (r.DMABED_MAX_FRAME, 2000), (r.DMABED_CTRL, 1)):
        twin.write(offset, value)
        await rig.device.write(offset, value)
    # Sending first: what it reads must not depend on when frames arrive.
    twin.write(QP + r.DMABED_QP_TX_TAIL, sent)
    twin.run([])
    await rig.device.write(QP + r.DMABED_QP_TX_TAIL, sent)
    await until(rig, QP + r.DMABED_QP_TX_HEAD, sent)
    frames = [rig.bytes(rig.rng.choice((60, 300, 1514, 1900, 2001))) for _ in range(14)]
    twin.write(QP + r.DMABED_QP_RX_TAIL, received)
    twin.run(frames)
    await rig.device.write(QP + r.DMABED_QP_RX_TAIL, received)
    for frame in frames:
        await rig.wire(frame)
    await until(rig, QP + r.DMABED_QP_RX_HEAD, twin.nic.mmio_read(QP + r.DMABED_QP_RX_HEAD, 4))
    await rig.cycles(400)
    await compare(rig, twin)
    rig.finish()


async def until(rig: Rig, register: int, value: int) -> None:
    for _ in range(3000):
        if await rig.device.read(register) == value:
            return
        await rig.cycles(20)
    raise TimeoutError(f"register {register:#x} is {await rig.device.read(register)}, not {value}")


async def compare(rig: Rig, twin: Twin) -> None:
    frames = []
    while (frame := rig.device.mac.receive_nowait()) is not None:
        frames.append(frame)
    assert frames == twin.sent, f"{len(frames)} frames sent, {len(twin.sent)} by the Python NIC"
    assert frames, "nothing was sent: the comparison would be empty"
    for name in COUNTERS:
        offset = QP + getattr(r, name)
        assert await rig.device.read64(offset) == twin.read64(offset), name
    assert twin.read64(QP + r.DMABED_QP_RX_PACKETS) and twin.read64(QP + r.DMABED_QP_RX_ERRORS)
    rings = {rig.space.find(iova).offset // PAGE for iova in (RX_CQ, TX_CQ)}
    differing = np.flatnonzero(rig.memory.array != twin.memory.array)
    where = {int(at) // PAGE for at in differing}
    text = f"{len(differing)} bytes differ, in completion rings: {where & rings}"
    assert not len(differing), text + f", first at {int(differing[0]):#x}" if len(differing) else ""
