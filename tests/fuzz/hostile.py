# SPDX-License-Identifier: MIT
"""A guest that programs nonsense, driven by bytes: for hypothesis, for atheris, for a replay.

The bytes are a program. Each step of it is one thing a guest or its QEMU can do to the device over
vfio-user: a register or configuration write, a map or unmap, descriptors written to memory, time,
a reset, interrupts, or a message of garbage. What must hold whatever the program is:

* no exception out of the session or the device model;
* no byte outside what was mapped for writing changes, in guest memory or elsewhere;
* a step of the device is bounded work, and what it holds afterwards is bounded memory;
* when the client is gone, nothing of it is left: no mapping, no file.
"""

from __future__ import annotations

import gc
import os
import time

import numpy as np
from numpy.typing import NDArray

from emulator.endpoint import Endpoint
from emulator.iommu.latency import LatencyModel
from emulator.ledger import Ledger, Policy
from emulator.ledger.events import Timeline
from emulator.nic import registers as r
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Generator, GeneratorConfig, Range
from emulator.nic_device import NicDevice
from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, PciIrq, PciRegion
from emulator.vfio_user.session import Session, State
from tests.support.vfio_user_client import map_payload, sealed_memfd, unmap_payload

PAGE = 4096
PAGES = 64
#: Pages that no program can map: they lie between those that it can.
FORBIDDEN = slice(1, PAGES, 2)
BASE = 0x10000
IOVAS = (0, BASE - PAGE, 0xFFFF_F000, 1 << 32, (1 << 47) - PAGE, (1 << 64) - PAGE * 4)
RECORD = 16
EDGES = (0, 1, 2, 3, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
STEP_CPU_S = 1.0
VERSION = b"\x00\x00\x01\x00" + b'{"capabilities":{}}\x00'


class Bytes:
    """Numbers out of a program; zeros when it has ended."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> bool:
        """Whether the program goes on."""
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        """The next ``size`` bytes."""
        part = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(part, "little")

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes as they are."""
        part = self._data[self._at : self._at + size]
        self._at += size
        return part


class HostileGuest:
    """A NIC behind a session, guest memory, and a program that may do anything to them."""

    def __init__(self) -> None:
        self.files_before = open_files()
        self.now_ns = 1_000
        self.ledger = Ledger(
            lambda: self.now_ns,
            Policy(keep_violations=1 << 20),
            timeline=Timeline(keep_events=1 << 14),
        )
        traffic = Generator(GeneratorConfig(seed=1, sizes=Range(60, 9000), flows=8))
        self.device = NicDevice(NicConfig(mac=bytes.fromhex("02dbed000001"), queues=2), traffic)
        self.endpoint = Endpoint(
            self.device, "dut", self.ledger, LatencyModel(), lambda: self.now_ns
        )
        self.device.link(True, 0)
        self.guest = sealed_memfd(PAGES * PAGE)
        self.pattern = np.random.default_rng(1).integers(0, 256, PAGES * PAGE, np.uint8)
        os.pwrite(self.guest, self.pattern.tobytes(), 0)
        self.begin()

    def begin(self) -> None:
        """A client connects: handshake, bus mastering and BARs on."""
        self.session = Session(self.endpoint)
        self.message(Command.VERSION, VERSION)
        assert self.session.state is State.RUNNING
        self.config_write(4, 0x0006, 2)
        for page in range(4):
            payload = map_payload(BASE + page * PAGE, PAGE, 2 * page * PAGE)
            self.message(Command.DMA_MAP, payload, [self.guest])

    # ------------------------------------------------------------------ what a guest can do
    def message(self, command: int, payload: bytes, fds: list[int] | None = None) -> None:
        """One message; descriptors are handed over."""
        data = wire.encode(7, command, payload)
        self.session.feed(data, [os.dup(fd) for fd in fds or []], self.now_ns)

    def region_write(self, region: int, offset: int, data: bytes) -> None:
        """Any access to any region."""
        head = wire.REGION_ACCESS.pack(offset, region, len(data))
        self.message(Command.REGION_WRITE, head + data)

    def config_write(self, offset: int, value: int, size: int) -> None:
        """Configuration space: command, BARs, MSI-X, power state, FLR."""
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        self.region_write(PciRegion.CONFIG, offset, data)

    def run(self, program: bytes) -> None:
        """Runs ``program`` to its end: records of :data:`RECORD` bytes, the first says what."""
        moves = (
            self._register, self._queue_register, self._register, self._queue_register,
            self._ring, self._descriptors, self._map, self._unmap, self._steps, self._config,
            self._reset, self._irqs, self._read, self._garbage,
        )  # fmt: skip
        for at in range(0, len(program), RECORD):
            source = Bytes(program[at : at + RECORD])
            moves[source.number(1) % len(moves)](source)
            if self.session.state is State.CLOSED:
                self.begin()
        self._steps(Bytes(b"\x08"))

    def _value(self, source: Bytes) -> int:
        kind = source.number(1)
        if kind < 128:
            return EDGES[kind % len(EDGES)]
        return self._iova(source) if kind < 192 else source.number(4)

    def _iova(self, source: Bytes) -> int:
        """Mostly near where something is mapped, at times at an edge of the address space."""
        pick = source.number(1)
        if pick < 224:
            return BASE + (pick & 15) * PAGE // 2
        return (IOVAS[pick % len(IOVAS)] + (pick & 8) * PAGE // 16) & (1 << 64) - 1

    def _register(self, source: Bytes) -> None:
        size = (4, 8, 1, 2)[source.number(1) % 4]
        value = self._value(source) & (1 << 8 * size) - 1
        self.region_write(0, source.number(1) * 2, value.to_bytes(size, "little"))

    def _queue_register(self, source: Bytes) -> None:
        offset = r.qp_base(source.number(1) % 3) + (source.number(1) & 0x5C)
        self.region_write(0, offset, (self._value(source) & 0xFFFF_FFFF).to_bytes(4, "little"))

    def _ring(self, source: Bytes) -> None:
        """A ring set up almost as a driver would, and started."""
        base = r.qp_base(source.number(1) % 2)
        tx = source.number(1) & 1
        ring, cq = self._iova(source), self._iova(source)
        first = base + (r.DMABED_QP_TX_RING_LO if tx else r.DMABED_QP_RX_RING_LO)
        log2 = (3, 6, 6, 7, 7, 8, 9, 12, 13, 15)[source.number(1) % 10]
        words = (ring, ring >> 32, cq, cq >> 32, log2, 1)
        for index, word in enumerate(words):
            data = (word & 0xFFFF_FFFF).to_bytes(4, "little")
            self.region_write(0, first + 4 * index, data)
        tail = base + (r.DMABED_QP_TX_TAIL if tx else r.DMABED_QP_RX_TAIL)
        posted = source.number(1) & 0x7F if log2 < 9 else source.number(2)
        self.region_write(0, tail, posted.to_bytes(4, "little"))
        self.region_write(0, r.DMABED_CTRL, (1).to_bytes(4, "little"))

    def _descriptors(self, source: Bytes) -> None:
        """Descriptors of any address, length and flags in a page that may be mapped."""
        page = source.number(1) % 8 * 2
        rng = np.random.default_rng(source.number(4))
        lengths = (0, 1, 60, 100, 2048, 4096, 9000, 0xFFFF)
        longest = source.number(1) % len(lengths) + 1
        entries = b"".join(
            self._iova(Bytes(rng.bytes(1))).to_bytes(8, "little")
            + lengths[int(rng.integers(longest == 1, longest + (longest == 1)))].to_bytes(
                2, "little"
            )
            + rng.bytes(2)
            + int(rng.integers(2)).to_bytes(4, "little")
            for _ in range(PAGE // 16)
        )
        os.pwrite(self.guest, entries, page * PAGE)

    def _map(self, source: Bytes) -> None:
        page, pages = source.number(1) % 8 * 2, 1
        flags = source.number(1) % 8 & 3 or 3
        iova = self._iova(source) & ~(PAGE - 1)
        payload = map_payload(iova, pages * PAGE, page * PAGE, flags)
        with_file = source.number(1) % 8
        self.message(Command.DMA_MAP, payload, [self.guest] if with_file else [])

    def _unmap(self, source: Bytes) -> None:
        size = PAGE * (source.number(1) % 4 or 1)
        self.message(Command.DMA_UNMAP, unmap_payload(self._iova(source) & ~(PAGE - 1), size))

    def _steps(self, source: Bytes) -> None:
        """Lets the device work; every step has to be bounded."""
        for _ in range(1 + source.number(1) % 8):
            self.now_ns += 100_000
            begin = time.process_time()
            self.endpoint.step(self.now_ns)
            self.session.poll(self.now_ns)
            assert time.process_time() - begin < STEP_CPU_S, "a step without bound"

    def _config(self, source: Bytes) -> None:
        interesting = (4, 0x10, 0x14, 0x20, 0x40, 0x44, 0x48, 0x52, 0x60, 0x68, 0x3C)
        pick = source.number(1)
        offset = interesting[pick % len(interesting)] if pick < 200 else source.number(2) % PAGE
        self.config_write(offset, self._value(source), (1, 2, 4)[source.number(1) % 3])

    def _reset(self, source: Bytes) -> None:
        kind = source.number(1) % 3
        if kind == 0:
            self.message(Command.DEVICE_RESET, b"")
        elif kind == 1:
            self.region_write(0, r.DMABED_CTRL, (2).to_bytes(4, "little"))
        else:
            self.session.close("the client hung up", self.now_ns)

    def _irqs(self, source: Bytes) -> None:
        flags = source.number(1)
        payload = wire.IRQ_SET.pack(20, flags, PciIrq.MSIX, source.number(1), source.number(1))
        self.message(Command.DEVICE_SET_IRQS, payload + source.raw(4), [])

    def _read(self, source: Bytes) -> None:
        region, offset = source.number(1) % 10, source.number(2)
        count = source.number(2)
        self.message(Command.REGION_READ, wire.REGION_ACCESS.pack(offset, region, count))

    def _garbage(self, source: Bytes) -> None:
        """A message whose header fits and whose body does not, or bytes that are no message."""
        if source.number(1) & 1:
            self.message(source.number(1) % 24, source.raw(source.number(1)))
        else:
            self.session.feed(source.raw(source.number(1)), [], self.now_ns)

    # ------------------------------------------------------------------ what must hold
    def pages(self) -> NDArray[np.uint8]:
        """uint8[PAGES, PAGE]: guest memory now."""
        raw = os.pread(self.guest, PAGES * PAGE, 0)
        return np.frombuffer(raw, np.uint8).reshape(PAGES, PAGE)

    def check(self) -> None:
        """See the module."""
        assert self.endpoint.device_errors == 0
        log = self.ledger.log
        assert max(log.counts.values(), default=0) <= log.keep, "some were counted only"
        blamed = [found for found in log.kept if "driver bug" not in found.cause]
        assert not [found for found in blamed if found.rule in {"O-1", "O-11"}], blamed
        before = self.pattern.reshape(PAGES, PAGE)
        assert (self.pages()[FORBIDDEN] == before[FORBIDDEN]).all(), "a page never mapped changed"
        waiting = sum(pair.rx.waiting for pair in self.device.nic.pairs)  # type: ignore[attr-defined]
        assert waiting <= 2 * self.device.config.batch
        assert len(self.ledger.timeline) <= 3 << 14

    def close(self) -> None:
        """The client goes: nothing of it is left."""
        if self.session.state is not State.CLOSED:
            self.session.close("end", self.now_ns)
        assert list(self.endpoint.space) == []
        assert len(self.endpoint.memory) == 0
        assert self.ledger.devices["dut"].live.count == 0
        os.close(self.guest)
        if open_files() != self.files_before:
            gc.collect()  # cycles are garbage, not leaks
        assert open_files() == self.files_before


def open_files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths


def play(program: bytes) -> None:
    """Runs ``program`` on a new device and checks everything.

    Raises:
        AssertionError: something that must hold does not. Anything else: a bug as well.
    """
    guest = HostileGuest()
    try:
        guest.run(program)
        guest.check()
    finally:
        guest.close()
