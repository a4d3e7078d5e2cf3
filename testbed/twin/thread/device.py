# SPDX-License-Identifier: MIT
"""Claims about device and packet: T13, T19, T20."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from driver.model.host import run_to_completion as now
from driver.model.inprocess import InProcessHost, Machine
from driver.model.main import dmabed_open, dmabed_probe, dmabed_remove
from driver.model.stack import Drop
from driver.model.structs import Config, Priv
from driver.model.updown import dmabed_schedule_reset
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from emulator.nic.wire.testframes import Checker
from pool.buffers import BufferBatch
from pool.registry import STRATEGIES
from testbed.twin.interpreted import build_interpreted
from testbed.twin.thread.experiment import GHZ, scenario, steady
from testbed.twin.thread.pools import AVERAGE, OFF, STRICT
from testbed.twin.thread.row import Facts, Row, whole
from testbed.twin.traffic import wire_ns
from testbed.twin.world import NotApplicableError

SLICE_NS = 500_000
"""Of T13: how long it runs before the device freezes, while it is frozen, and after."""
PPS = 2_000_000


class Frozen:
    """A NIC with its driver, which receives; T13 freezes it as EEH does."""

    def __init__(self, strategy: str) -> None:
        self.machine, self.checker = Machine(1 << 13), Checker()
        wire = Generator(GeneratorConfig(seed=1, sizes=Fixed(60), count=None, rate_pps=PPS))
        mac = bytes([2, 0xDB, 0xED, 0, 0, 1])
        self.host: InProcessHost = self.machine.add_device(NicConfig(mac=mac), wire)
        stack = Drop(self.checker.take)
        self.priv: Priv = now(dmabed_probe(self.host, stack, strategy, Config(1, 256, 64)))
        now(dmabed_open(self.priv))

    def run(self) -> int:
        """Frames that arrived in the next slice."""
        before = self.checker.frames
        start = self.machine.now_ns
        self.machine.run([self.priv], start + SLICE_NS)
        self.machine.now_ns = max(self.machine.now_ns, start + SLICE_NS)
        return self.checker.frames - before

    def recover(self) -> int:
        """The platform lets the device go on, the driver resets it; ns until the first frame."""
        self.host.absent = False
        start, before = self.machine.now_ns, self.checker.frames
        dmabed_schedule_reset(self.priv)
        while self.checker.frames == before and self.machine.now_ns < start + 10 * SLICE_NS:
            self.machine.run([self.priv], self.machine.now_ns + 1000)
        return self.machine.now_ns - start


def freeze_and_recover(strategy: str) -> Facts:
    """Frames before, during and after; time to recover; what is left when the driver is gone."""
    bed = Frozen(strategy)
    before = bed.run()
    mapped = len(bed.host.space)
    bed.host.absent = True
    during = bed.run()
    recovery = bed.recover()
    after = bed.run()
    still = len(bed.host.space)
    now(dmabed_remove(bed.priv))
    verdict = bed.machine.ledger.verdict().summary[0]
    return {
        "before": before,
        "during": during,
        "after": after,
        "recovery_us": recovery / 1e3,
        "corrupt": bed.checker.corrupt,
        "grown": still - mapped,
        "leaked": bed.machine.pages.in_use + len(bed.host.space),
        "clean": verdict == "ledger: clean",
    }


def t13() -> Row:
    """A device that the platform freezes."""
    found = {name: freeze_and_recover(name) for name in ("page_pool", "map_per_packet")}
    pool = found["page_pool"]
    return Row(
        13,
        "A device that is frozen and reset",
        "Cascardo",
        "holds, in the model",
        "An IOMMU stops the write of a broken device, and EEH resets the driver: worth having "
        "even where nobody attacks.",
        "The NIC is frozen as by EEH: its registers read as all ones, writes to them are lost, it "
        "does no DMA. {before:.0f} frames came in half a millisecond before, {during:.0f} in "
        "the half after. Let go and reset by the driver, the first frame comes after "
        "{recovery_us:.0f} us, {after:.0f} in the next half millisecond; {corrupt:.0f} are "
        "damaged, {grown:.0f} more pages are mapped than before, and when the driver is removed "
        "{leaked:.0f} pages and mappings are left.",
        "The driver's model and the NIC in one process, in virtual time, 2 million frames a "
        "second. The seconds that real EEH takes to reset a slot are not in it; the kernel "
        "driver's own recovery is tested in a guest.",
        ("strategy", "frames before", "frozen", "after", "recovery, us", "left behind"),
        [
            (
                f"`{name}`",
                *(whole(facts[key]) for key in ("before", "during", "after", "recovery_us")),
                whole(facts["leaked"]),
            )
            for name, facts in found.items()
        ],
        pool | {f"mpp_{key}": value for key, value in found["map_per_packet"].items()},
    )


_COLUMNS = {
    "pfns": "the page",
    "iovas": "its DMA address, so nobody maps",
    "lengths": "bytes the device may write, then bytes it wrote",
    "offsets": "where they begin in the page",
    "headrooms": "how much before that is the driver's",
    "opaques": "whatever the driver or target attached; carried, never read",
    "domains": "which device or application it may be given back to",
}


def t19() -> Row:
    """What is kept with a page."""
    names = [field.name for field in fields(BufferBatch)]
    moved = {}
    for room in (0, 256):
        world = build_interpreted(scenario("page_pool", STRICT, driver__headroom=room))
        batch = world.pools[0].take(8)
        moved[room] = int(np.unique(batch.offsets)[0])
    runs = [steady("page_pool", STRICT, driver__headroom=room) for room in moved]
    return Row(
        19,
        "What is kept with a page",
        "Brouer",
        "done",
        "Opaque bytes, the packet's length and an offset that leaves headroom belong to the page "
        "that a pool hands out.",
        "The descriptor of every strategy has {columns:.0f} columns, the same in twin and driver. "
        "A headroom of 256 bytes moves the device's first byte from {plain:.0f} to {moved:.0f} "
        "and costs {more:.0f} cycles: it is arithmetic on the DMA address.",
        AVERAGE + "; a descriptor is a row of parallel arrays, as a poll handles them.",
        ("column", "is"),
        [(f"`{name}`", _COLUMNS[name]) for name in names],
        {
            "columns": len(names),
            "plain": moved[0],
            "moved": moved[256],
            "more": abs(runs[1].total - runs[0].total),
        },
    )


def t20() -> Row:
    """The budget line."""
    budget = wire_ns(64, 10.0) * GHZ
    facts: Facts = {"budget": budget, "ns": wire_ns(64, 10.0)}
    lines = []
    for name in sorted(STRATEGIES):
        off = _share(name, OFF, budget)
        strict = _share(name, STRICT, budget)
        facts |= {f"{name}_off": off, f"{name}_strict": strict}
        lines.append((f"`{name}`", f"{off:.0%}" if off >= 0 else "needs an IOMMU", f"{strict:.0%}"))
    within = [name for name in STRATEGIES if facts[f"{name}_strict"] <= 1.0]
    facts |= {"within": len(within), "all": len(STRATEGIES)}
    return Row(
        20,
        "201 cycles",
        "Brouer",
        "the line of every report",
        "At 10 Gb/s a 64-byte frame comes every 67 ns, about 201 cycles at 3 GHz: that is all "
        "there is for the whole forwarding path.",
        "{ns:.1f} ns are {budget:.1f} cycles. Of {all:.0f} strategies {within:.0f} receive and "
        "drop within them under strict invalidation: `page_pool` with {page_pool_strict:.0%} of "
        "the budget, half pages with {half_page_flip_strict:.0%}. Whoever passes the page "
        "allocator for each packet is past it before any IOMMU is asked "
        "({map_per_packet_off:.0%}), and {map_per_packet_strict:.0%} with one.",
        AVERAGE + ", dropped; what forwards or delivers pays for its stack besides.",
        ("strategy", "share of the budget, no IOMMU", "under `vtd-strict`"),
        lines,
        facts,
    )


def _share(strategy: str, preset: str, budget: float) -> float:
    """Of the budget; -1: it does not work there."""
    try:
        return steady(strategy, preset).total / budget
    except NotApplicableError:
        return -1.0
