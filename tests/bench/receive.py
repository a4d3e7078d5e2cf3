# SPDX-License-Identifier: MIT
"""NIC, address space and ledger in this process, and a driver that costs next to nothing.

Two address spaces are compared: one extent that holds all of memory (no IOMMU), and thousands of
single pages at IOVAs as Linux gives them, top down from 4 GiB, in random order (page_pool behind an
IOMMU). Run as a program it prints process CPU ns a packet for both, measured in turns:

    .venv/bin/python -m tests.bench.receive [--profile pages] [--burst 64] [--length 60]
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import mmap
import os
import pstats
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger
from emulator.nic import registers as r
from emulator.nic.config import NicConfig
from emulator.nic.descriptors import COMPLETION, RX_DESC
from emulator.nic.nic import Nic
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from emulator.ports import IrqPort
from testbed.cable import Cable

PAGE = 4096
MEMORY = 2 << 30
IOVA_TOP = 1 << 32
BUFFERS = 4096
HEADROOM, BUFFER = 256, 3520
"""Where a frame begins in its page and how long it may be: about what the Linux driver posts."""
RING_PAGES = 4


class SharedMemory:
    """All of guest memory, as QEMU shares it; pages that nobody touches cost nothing."""

    index = 0

    def __init__(self) -> None:
        fd = os.memfd_create("bench-guest")
        os.ftruncate(fd, MEMORY)
        self.array = np.frombuffer(mmap.mmap(fd, MEMORY), np.uint8)
        os.close(fd)


class Irqs:
    """Counts interrupts."""

    def __init__(self) -> None:
        self.count = 0

    def raise_vector(self, vector: int) -> None:
        self.count += 1


class ReceiveRig:
    """A NIC under full load. ``paged``: behind single pages; else one extent holds all memory.

    burst: descriptors of a doorbell. log2: entries of the ring. Every buffer is a page of its own.
    """

    def __init__(self, paged: bool, length: int, burst: int, log2: int = 10, seed: int = 1) -> None:
        self.burst, self.size, self.now_ns = burst, 1 << log2, 0
        self.ledger = Ledger(lambda: self.now_ns)
        self.device = self.ledger.device("nic")
        self.device.gate_changed(0, True)
        self.memory = SharedMemory()
        self.space = AddressSpace("nic")
        self.dma = SpaceDma(self.space, self.device, DmaGate(True))
        self._rng = np.random.default_rng(seed)
        self._map(paged)
        self.cable, self.irqs = Cable(), Irqs()
        irq: IrqPort = self.irqs
        config = NicConfig(mac=bytes.fromhex("02dbed00000a"), queues=1)
        self.nic = Nic(config, self.dma, irq, self.cable, self.device)
        self.generator = Generator(GeneratorConfig(seed=seed, sizes=Fixed(length), flows=4))
        self.cable.plug(self.generator)
        self._start(log2)

    def _map(self, paged: bool) -> None:
        """Ring memory first, then buffers, at random pages of memory."""
        count = 2 * RING_PAGES + BUFFERS
        pfns = self._rng.choice(np.arange(1, 1 << 17), count, replace=False)
        if paged:
            # Rings are consecutive IOVAs on scattered pages; buffers in random order.
            pages = (IOVA_TOP >> 12) - 1 - np.arange(count)
            for page, pfn in zip(pages.tolist(), pfns.tolist(), strict=True):
                self._map_one(page << 12, PAGE, pfn << 12)
            self._pfn = dict(zip(pages.tolist(), pfns.tolist(), strict=True))
            rings = pages[: 2 * RING_PAGES][::-1]
            self._bases = [int(rings[0]) << 12, int(rings[RING_PAGES]) << 12]
            self.buffers = self._rng.permutation(pages[2 * RING_PAGES :]).astype(np.uint64) << 12
        else:
            self._map_one(0, MEMORY, 0)
            self._bases = [1 << 29, (1 << 29) + RING_PAGES * PAGE]
            self._pfn = {(b >> 12) + i: (b >> 12) + i for b in self._bases for i in range(4)}
            self.buffers = pfns[2 * RING_PAGES :].astype(np.uint64) << 12
        self.buffers += np.uint64(HEADROOM)

    def _map_one(self, iova: int, size: int, offset: int) -> None:
        mapping = self.space.map(iova, size, self.memory, offset, True, True, 0)
        self.device.mapped(0, mapping)

    def _ring_rows(self, base: int, dtype: np.dtype) -> list[NDArray]:
        """The entries of a ring, page by page, as the guest sees them."""
        places = [self._pfn[(base >> 12) + page] << 12 for page in range(RING_PAGES)]
        return [self.memory.array[at : at + PAGE].view(dtype) for at in places]

    def _start(self, log2: int) -> None:
        nic, base = self.nic, r.qp_base(0)
        nic.bus_master(True, 0)
        nic.link(True, 0)
        for register, value in (
            (r.DMABED_RX_FILTER, 1),
            (r.DMABED_MAX_FRAME, 1518),
            (r.DMABED_RSS_QUEUES, 1),
            (base + r.DMABED_QP_RX_RING_LO, self._bases[0]),
            (base + r.DMABED_QP_RX_CQ_LO, self._bases[1]),
            (base + r.DMABED_QP_RX_SIZE, log2),
        ):
            nic.mmio_write(register, value, 4, 0)
        nic.mmio_write(base + r.DMABED_QP_RX_CTRL, 1, 4, 0)
        nic.mmio_write(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE, 4, 0)
        self._tail_register = base + r.DMABED_QP_RX_TAIL
        self._descs = self._ring_rows(self._bases[0], RX_DESC.dtype)
        self._completions = self._ring_rows(self._bases[1], COMPLETION.dtype)
        for rows in self._descs:
            rows["len"], rows["id"] = BUFFER, np.arange(len(rows))
        self.posted = 0

    def _write_descriptors(self, count: int) -> None:
        for index in range(self.posted, self.posted + count):
            slot = index % self.size
            rows = self._descs[slot >> 8]
            rows["addr"][slot & 255] = self.buffers[index % BUFFERS]
        self.posted += count

    @property
    def received(self) -> int:
        """Packets that the NIC says it has delivered."""
        return self.nic.mmio_read(r.qp_base(0) + r.DMABED_QP_RX_PACKETS, 8)

    def rounds(self, count: int) -> Iterator[None]:
        """Yields with ``burst`` descriptors written; the caller then runs :meth:`work`."""
        for _ in range(count):
            self._write_descriptors(self.burst)
            yield

    def work(self) -> None:
        """What the device does for one burst: a doorbell, and steps until all is delivered."""
        self.now_ns += 100_000
        self.dma.now_ns = self.now_ns
        self.nic.mmio_write(self._tail_register, self.posted & 0xFFFFFFFF, 4, self.now_ns)
        due: int | None = self.now_ns
        while due is not None and due <= self.now_ns and self.nic.pairs[0].rx.ring.posted:
            due = self.nic.step(self.now_ns)

    def run(self, packets: int) -> float:
        """Process CPU ns a packet of the device, over ``packets``."""
        spent, before = 0, self.received
        for _ in self.rounds(packets // self.burst):
            start = time.process_time_ns()
            self.work()
            spent += time.process_time_ns() - start
        return spent / (self.received - before)

    def check(self) -> None:
        """Every packet was delivered, and no rule was broken."""
        assert self.received == self.posted == self.generator.total_sent
        assert self.device.totals.rx_packets == self.received
        assert self.ledger.verdict().ok, self.ledger.verdict().summary


def _compare(length: int, burst: int, turns: int, packets: int) -> str:
    rigs = {name: ReceiveRig(name == "pages", length, burst) for name in ("extent", "pages")}
    costs: dict[str, list[float]] = {name: [] for name in rigs}
    for turn in range(turns + 1):
        for name, rig in rigs.items():
            cost = rig.run(packets)
            if turn:
                costs[name].append(cost)
    for rig in rigs.values():
        rig.check()
    medians = {name: statistics.median(taken) for name, taken in costs.items()}
    ratio = statistics.median(b / a for a, b in zip(costs["extent"], costs["pages"], strict=True))
    return (
        f"{length:5} B, bursts of {burst:4}: extent {medians['extent']:6.0f} "
        f"(from {min(costs['extent']):.0f}) ns, pages {medians['pages']:6.0f} "
        f"(from {min(costs['pages']):.0f}) ns, pages / extent {ratio:.3f}"
    )


def _profile(kind: str, length: int, burst: int) -> None:
    rig = ReceiveRig(kind == "pages", length, burst)
    rig.run(1 << 15)
    profile = cProfile.Profile()
    for _ in rig.rounds((1 << 17) // burst):
        profile.enable()
        rig.work()
        profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=("extent", "pages"))
    parser.add_argument("--burst", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--length", type=int, nargs="*", default=[60, 1514])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--packets", type=int, default=1 << 15)
    chosen = parser.parse_args(arguments)
    gc.freeze()  # as the device process does
    for length in chosen.length:
        for burst in chosen.burst:
            if chosen.profile:
                _profile(chosen.profile, length, burst)
            else:
                print(_compare(length, burst, chosen.turns, chosen.packets))


if __name__ == "__main__":
    main()
