# SPDX-License-Identifier: MIT
"""Boots a guest, lets its NIC attack the memory it had, and asks a victim what arrived."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emulator.iommu.latency import Delay, LatencyModel
from testbed.attack.attacker import MAGIC, NOTHING, Attack, AttackNic
from testbed.errors import RigError
from testbed.laboratory import Traffic
from testbed.plants.table import duration
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, RxMode, VmPlan
from vm.artifacts import Artifacts, setup

ATTACKED: tuple[Iommu, ...] = ("virtio-lazy", "virtio-strict", "intel-strict")
VICTIM = Path(__file__).parent / "victim.c"
VICTIM_PAGES = 256
ROUNDS = 4
#: An IOMMU that takes its time for an invalidation. On a busy host the guest would otherwise often
#: be slower to reuse the memory than its flush queue, whose timer runs for 10 ms, is to unmap it.
UNMAP_US = 1000
_RINGS = NicPlan(queues=1, rx_ring=128, tx_ring=64)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attack.

    rounds: attacks that were made; the figures are of the last. arrived: pages of the victim with a
    canary. first: words on the first of them. live_at_release: mappings that were alive when the
    driver gave its memory back, by the ledger. claimed_us: how long the victim took to make the
    pages its own after they had been given back.
    """

    iommu: Iommu
    strategy: RxMode
    rounds: int = 0
    attack: Attack = NOTHING
    arrived: int = 0
    first: str = ""
    live_at_release: int = 0
    claimed_us: int = 0

    @property
    def histogram(self) -> list[tuple[int, int]]:
        """[upper bound in ns, pages]: when the last write to a page was accepted."""
        counts = Counter(window.bit_length() for window in self.attack.windows)
        return [(1 << bits, count) for bits, count in sorted(counts.items())]


async def run_attack(
    artifacts: Artifacts,
    folder: Path,
    iommu: Iommu,
    strategy: RxMode = "page_pool",
    unmap_us: int = UNMAP_US,
) -> Outcome:
    """One guest, attacked until a canary arrives, at most ``ROUNDS`` times.

    unmap_us: how long the IOMMU takes for an unmap besides.

    Raises:
        RigError: the guest did not do its part.
    """
    vm = VmPlan(memory_mib=256)
    async with open_rig(artifacts, iommu, folder, vm, _RINGS, model=AttackNic) as rig:
        victim = await _victim(artifacts, rig, folder)
        await rig.load_sink(verify=False)
        await rig.load(strategy, _RINGS)
        unmap = Delay(mean_ns=unmap_us * 1000)
        for number in range(1, ROUNDS + 1):
            await rig.latency(LatencyModel())
            await rig.guest.run(f"ip link set {rig.interface} up")
            await rig.await_carrier(rig.interface)
            await rig.receive(Traffic(count=600))
            await rig.latency(LatencyModel(f"{unmap_us} us an unmap", Delay(), unmap))
            outcome = await _attack(rig, victim, Outcome(iommu, strategy, rounds=number))
            if outcome.arrived:
                break
    return outcome


async def _attack(rig: Rig, victim: str, known: Outcome) -> Outcome:
    """The victim takes the interface down and its memory over; the NIC writes there."""
    rig.devices.call("attack", "nic")
    said = await rig.guest.run(f"{victim} {rig.interface} {VICTIM_PAGES}")
    attack: Attack = rig.devices.call("attacked", "nic")
    exposed = await rig.exposed()
    if not attack.over:
        raise RigError("the attack is not over; the guest keeps its mappings for seconds")
    lines = {line.split()[0]: line.split()[1:] for line in said.stdout.splitlines()}
    arrived = int(lines["changed"][0])
    return replace(
        known,
        attack=attack,
        arrived=arrived,
        first=_words(lines["first"]) if arrived else "",
        live_at_release=exposed.at_release or 0,
        claimed_us=int(lines["claimed_us"][0]),
    )


async def _victim(artifacts: Artifacts, rig: Rig, folder: Path) -> str:
    program = folder / "victim"
    chain = artifacts.toolchain
    command = [chain.cc, *chain.flags, "-O2", "-static", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    built = chain.run([*command, str(VICTIM), "-o", str(program)])
    if built.returncode:
        raise RigError(f"the victim does not compile:\n{built.stdout}")
    await rig.guest.push(program, "/tmp/victim", 0o755)
    return "/tmp/victim"


def _words(first: list[str]) -> str:
    page, offset, magic, iova, after_ns = first
    if int(magic, 16) != MAGIC:
        return f"page {page} of the victim, byte {offset}: {magic}, which is no canary"
    return (
        f"page {page} of the victim, byte {offset}: the canary written to IOVA {iova[:-3]}000 "
        f"{duration(int(after_ns))} after the driver had given that page back"
    )


def show_attacks(
    iommus: Sequence[Iommu], strategy: RxMode, folder: Path, unmap_us: int = UNMAP_US
) -> int:
    """Attacks under each IOMMU, prints and writes what came of it; returns the exit status.

    3: memory was written under a strict IOMMU.
    """
    artifacts = setup(print)
    outcomes = [
        asyncio.run(run_attack(artifacts, folder / iommu, iommu, strategy, unmap_us))
        for iommu in iommus
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attack.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    print(f"{unmap_us} us added to each unmap")
    Console(width=120).print(attack_table(outcomes))
    for outcome in outcomes:
        _print_windows(outcome)
    print(f"\n{folder / 'attack.json'}")
    broken = [one for one in outcomes if one.iommu.endswith("strict") and one.attack.writes]
    return 3 if broken else 0


def attack_table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each attack."""
    table = Table(box=None, pad_edge=False)
    for column in (
        "IOMMU", "strategy", "pages attacked", "live at release", "still written", "writes",
        "longest window", "arrived at the victim",
    ):  # fmt: skip
        table.add_column(column)
    for one in outcomes:
        attack = one.attack
        longest = duration(attack.windows[-1]) if attack.windows else "-"
        numbers = (attack.targets, one.live_at_release, attack.hit, attack.writes)
        table.add_row(one.iommu, one.strategy, *map(str, numbers), longest, str(one.arrived))
    return table


def _print_windows(outcome: Outcome) -> None:
    if not outcome.attack.windows:
        return
    print(f"\n{outcome.iommu}: last accepted write to each page, from the note that it was given")
    most = max(count for _, count in outcome.histogram)
    for bound, count in outcome.histogram:
        print(f"  < {duration(bound):>8} {count:5} {'#' * max(1, 50 * count // most)}")
    if outcome.first:
        print(f"  {outcome.first}")
