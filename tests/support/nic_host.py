# SPDX-License-Identifier: MIT
"""The least host a NIC can be attached to: flat memory, recorded interrupts, and bare rings.

No driver: tests post descriptors and read completions themselves, so that they can do it wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.nic import registers as r
from emulator.nic.config import NicConfig
from emulator.nic.descriptors import COMPLETION, RX_DESC, TX_DESC
from emulator.nic.nic import Nic
from emulator.nic.wire.base import Wire
from emulator.ports import DmaFault, RingKind

MAC = bytes.fromhex("02dbed00000a")
BASE = 0x10_0000_0000
"""IOVA of the memory's first byte: above 4 GiB, so that lost high halves show."""

RUNS_MAX = 3000


class FlatDma:
    """Memory at IOVA :data:`BASE`. ``refused``: list of (start, end, write) IOVA ranges."""

    def __init__(self, size: int) -> None:
        self.memory = np.zeros(size, np.uint8)
        self.refused: list[tuple[int, int, bool]] = []
        self.accesses: list[tuple[str, int, int]] = []

    def allowed(self, iova: int, length: int, write: bool) -> bool:
        inside = iova >= BASE and iova + length <= BASE + len(self.memory)
        return inside and not any(
            iova < end and start < iova + length and write == kind
            for start, end, kind in self.refused
        )

    def check(self, iova: int, length: int, write: bool) -> int:
        self.accesses.append(("write" if write else "read", iova, length))
        if not self.allowed(iova, length, write):
            raise DmaFault(iova, length, write, "not mapped")
        return iova - BASE

    def read(self, iova: int, length: int) -> bytes:
        at = self.check(iova, length, False)
        return self.memory[at : at + length].tobytes()

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        flat = np.frombuffer(data, np.uint8)
        at = self.check(iova, len(flat), True)
        self.memory[at : at + len(flat)] = flat

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        done = np.ones(len(frames), np.bool_)
        for i, (iova, frame) in enumerate(zip(iovas.tolist(), frames, strict=True)):
            self.accesses.append(("write", iova, len(frame)))
            done[i] = self.allowed(iova, len(frame), True)
            if done[i]:
                at = iova - BASE
                self.memory[at : at + len(frame)] = np.frombuffer(frame, np.uint8)
        return done

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        done = np.ones(len(iovas), np.bool_)
        parts = []
        for i, (iova, length) in enumerate(zip(iovas.tolist(), lengths.tolist(), strict=True)):
            self.accesses.append(("read", iova, length))
            done[i] = self.allowed(iova, length, False)
            at = iova - BASE
            parts.append(self.memory[at : at + length].tobytes() if done[i] else bytes(length))
        return FrameBatch.of(parts), done


class Script:
    """A wire that gives ``frames`` and keeps what is sent; ``asked``: the rooms it was given."""

    def __init__(self, frames: list[bytes] | None = None) -> None:
        self.queue = list(frames or [])
        self.sent: list[bytes] = []
        self.asked: list[int] = []

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        self.asked.append(room)
        taken, self.queue = self.queue[:room], self.queue[room:]
        return FrameBatch.of(taken)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        self.sent += list(frames)

    def next_due_ns(self, now_ns: int) -> int | None:
        return now_ns if self.queue else None


def frame(length: int, dst: bytes = b"\xff" * 6, tag: int = 0) -> bytes:
    return (dst + bytes.fromhex("020000000001") + b"\x12\x34" + bytes([tag]) * length)[:length]


@dataclass
class Irqs:
    """Vectors in the order they were raised."""

    raised: list[int] = field(default_factory=list)

    def raise_vector(self, vector: int) -> None:
        self.raised.append(vector)

    def take(self) -> list[int]:
        taken, self.raised = self.raised, []
        return taken


class Watcher:
    """An observer that keeps who owns what and fails on what cannot be."""

    def __init__(self) -> None:
        self.running: set[tuple[int, RingKind]] = set()
        self.owned: dict[tuple[int, RingKind], list[tuple[int, int]]] = {}
        self.delivered: dict[tuple[int, RingKind], int] = {}
        self.log: list[str] = []
        self.notes: list[tuple[int, int]] = []

    def note(self, now_ns: int, value: int) -> None:
        self.notes.append((now_ns, value))

    def ring_started(self, now_ns: int, queue: int, kind: RingKind, iova: int, size: int) -> None:
        assert (queue, kind) not in self.running
        self.running.add((queue, kind))
        self.owned[queue, kind] = []

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        self.running.remove((queue, kind))
        self.owned[queue, kind] = []

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        assert (queue, kind) in self.running
        self.owned[queue, kind] += zip(iovas.tolist(), lengths.tolist(), strict=True)

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        back = list(zip(iovas.tolist(), lengths.tolist(), strict=True))
        owned = self.owned[queue, kind]
        assert owned[: len(back)] == back, "returned what was not the device's"
        self.owned[queue, kind] = owned[len(back) :]
        self.log.append("returned")

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        key = (queue, kind)
        self.delivered[key] = self.delivered.get(key, 0) + count

    def armed(self, now_ns: int, queue: int, seen: int, done: int, sizes: tuple[int, int]) -> None:
        self.log.append("armed")


class Side:
    """One ring of a pair with ``1 << log2`` buffers of ``buffer`` bytes; ``name``: RX or TX.

    ``head``: descriptors posted; ``seen``: completions consumed.
    """

    def __init__(self, host: Host, queue: int, name: str, log2: int, buffer: int) -> None:
        self._host, self._queue, self._name = host, queue, name
        self.log2, self.size, self.buffer = log2, 1 << log2, buffer
        self.ring = host.alloc(16 << log2, 4096)
        self.cq = host.alloc(16 << log2, 4096)
        self.buffers = host.alloc(buffer << log2, 4096)
        self.posted = self.seen = 0

    def reg(self, name: str) -> int:
        return r.qp_base(self._queue) + int(getattr(r, f"DMABED_QP_{self._name}_{name}"))

    def start(self) -> None:
        host = self._host
        for name, iova in (("RING", self.ring), ("CQ", self.cq)):
            host.write(self.reg(f"{name}_LO"), iova & 0xFFFFFFFF)
            host.write(self.reg(f"{name}_HI"), iova >> 32)
        host.write(self.reg("SIZE"), self.log2)
        host.memory(self.cq, 16 << self.log2)[:] = 0
        self.posted = self.seen = 0
        host.write(self.reg("CTRL"), 1)

    @property
    def running(self) -> bool:
        return self._host.read(self.reg("CTRL")) == 3

    def descs(self) -> NDArray[Any]:
        layout = RX_DESC if self._name == "RX" else TX_DESC
        return self._host.memory(self.ring, 16 << self.log2).view(layout.dtype)

    def buffer_at(self, index: int) -> int:
        return self.buffers + (index % self.size) * self.buffer

    def fill(self, count: int, lengths: list[int] | None = None, flags: int = 1) -> None:
        """Writes the next ``count`` descriptors, without a doorbell."""
        descs = self.descs()
        for i in range(count):
            index = self.posted + i
            desc = descs[index % self.size : index % self.size + 1]
            desc["addr"] = self.buffer_at(index)
            desc["len"] = lengths[i] if lengths else self.buffer
            desc["id"] = index % self.size
            if self._name == "TX":
                desc["flags"] = flags
        self.posted += count

    def ring_doorbell(self) -> None:
        self._host.write(self.reg("TAIL"), self.posted & 0xFFFFFFFF)

    def post(self, count: int, lengths: list[int] | None = None) -> None:
        self.fill(count, lengths)
        self.ring_doorbell()

    def send(self, frames: list[bytes]) -> None:
        for i, frame in enumerate(frames):
            at = self.buffer_at(self.posted + i)
            self._host.memory(at, len(frame))[:] = np.frombuffer(frame, np.uint8)
        self.post(len(frames), [len(frame) for frame in frames])

    def poll(self) -> list[dict[str, int]]:
        """The completions that are new by their phase bit."""
        entries = self._host.memory(self.cq, 16 << self.log2).view(COMPLETION.dtype)
        found = []
        while len(found) < self.size:
            entry = entries[self.seen % self.size]
            phase = 1 - (self.seen >> self.log2 & 1)
            if int(entry["status"]) & 1 != phase:
                break
            found.append({name: int(entry[name]) for name in entries.dtype.names or ()})
            self.seen += 1
        return found

    def frames(self) -> list[bytes]:
        """New received frames, reassembled; asserts SOP, EOP and frame_len."""
        frames: list[bytes] = []
        for entry in self.poll():
            status = entry["status"]
            if status & r.DMABED_COMPLETION_STATUS_SOP:
                frames.append(b"")
            at = self.buffers + entry["id"] * self.buffer
            frames[-1] += self._host.memory(at, entry["len"]).tobytes()
            ended = bool(status & r.DMABED_COMPLETION_STATUS_EOP)
            assert ended == (len(frames[-1]) == entry["frame_len"])
        return frames


class Host:
    """A NIC with memory, interrupts and a watcher; ``now`` is the time of the next call, ns."""

    def __init__(self, wire: Wire, memory: int = 1 << 23, dma: Any = None, **config: Any) -> None:
        self.dma = dma or FlatDma(memory)
        self.irqs, self.watcher, self.wire = Irqs(), Watcher(), wire
        settings = NicConfig(**({"mac": MAC} | config))
        self.nic = Nic(settings, self.dma, self.irqs, wire, self.watcher)
        self.now = 0
        self._free = BASE
        self._runs = 0

    def alloc(self, size: int, align: int) -> int:
        iova = -(-self._free // align) * align
        self._free = iova + size
        assert self._free <= BASE + len(self.dma.memory)
        return iova

    def memory(self, iova: int, size: int) -> NDArray[np.uint8]:
        view: NDArray[np.uint8] = self.dma.memory[iova - BASE : iova - BASE + size]
        return view

    def read(self, offset: int, size: int = 4) -> int:
        return self.nic.mmio_read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.nic.mmio_write(offset, value, size, self.now)

    def qp_read(self, queue: int, offset: int, size: int = 4) -> int:
        return self.read(r.qp_base(queue) + offset, size)

    def stat(self, name: str, queue: int = 0) -> int:
        return self.qp_read(queue, getattr(r, f"DMABED_QP_{name}"), 8)

    def up(self, promisc: bool = True, queues: int = 1) -> None:
        """Bus master on, link up, MAC enabled."""
        self.nic.bus_master(True, self.now)
        self.nic.link(True, self.now)
        self.write(r.DMABED_RX_FILTER, int(promisc))
        self.write(r.DMABED_MAX_FRAME, 9018)
        self.write(r.DMABED_RSS_QUEUES, queues)
        self.write(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE)

    def side(self, name: str, queue: int = 0, log2: int = 6, buffer: int = 2048) -> Side:
        side = Side(self, queue, name, log2, buffer)
        side.start()
        return side

    def arm(self, queue: int, rx_seen: int, tx_seen: int) -> None:
        value = (rx_seen & 0xFFFF) | (tx_seen & 0xFFFF) << 16
        self.write(r.qp_base(queue) + r.DMABED_QP_ARM, value)

    def run(self, limit: int = 1000) -> int | None:
        """Steps until the NIC has nothing to do at ``now``; returns when it wants to be stepped."""
        self._runs += 1
        assert self._runs < RUNS_MAX, "the test makes no progress"
        for _ in range(limit):
            due = self.nic.step(self.now)
            if due is None or due > self.now:
                return due
        raise AssertionError("the NIC is never done")
