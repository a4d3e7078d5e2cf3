# SPDX-License-Identifier: MIT
"""Boots a guest, lets its NIC attack the memory it had, and asks a victim what arrived."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from emulator.iommu.latency import Delay, LatencyModel
from testbed.attack.attacker import MAGIC, NOTHING, Attack, AttackNic
from testbed.errors import RigError
from testbed.laboratory import Traffic
from testbed.report.units import duration
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, RxMode, VmPlan
from vm.artifacts import Artifacts
from vm.module_build import build_program
from vm.waiting import Looks

ATTACKED: tuple[Iommu, ...] = (
    "virtio-lazy", "virtio-strict", "intel-lazy", "intel-strict", "amd-lazy", "amd-strict",
)  # fmt: skip
VICTIM = Path(__file__).parent / "victim.c"
VICTIM_PAGES = 256
ROUNDS = 12
#: An IOMMU that takes its time for an invalidation. On a busy host the guest would otherwise often
#: be slower to reuse the memory than its flush queue, whose timer runs for 10 ms, is to unmap it.
UNMAP_US = 1000
#: The attacker ends by itself after 5 s.
_OVER_S = 8.0
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

    @property
    def broken(self) -> bool:
        """Memory was written although the IOMMU is strict."""
        return self.iommu.endswith("strict") and bool(self.attack.writes)


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
    async for _ in Looks(_OVER_S, 0.05):
        attack: Attack = rig.devices.call("attacked", "nic")
        if attack.over:
            break
    else:
        raise RigError("the attack is not over; the guest keeps its mappings for seconds")
    exposed = await rig.exposed()
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
    program = build_program(artifacts.toolchain, VICTIM, folder)
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
