# SPDX-License-Identifier: MIT
"""The guest's own trace of its DMA API against what the device saw, on one clock."""

import asyncio
from pathlib import Path

import pytest

from emulator.ledger.join import Joined
from testbed.guest_facts import Retained
from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, Strategy, VmPlan
from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm

KEPT = 40
SMALL = NicPlan(queues=1, rx_ring=256, tx_ring=256)


async def traced_life(rig: Rig, strategy: Strategy) -> tuple[Joined, dict]:
    """Load, 300 packets, unload, all of it traced; what the join found, and the verdict."""
    await rig.load_sink(verify=True)
    tracer = await rig.trace_begin()
    await rig.load(strategy, SMALL)
    retained = Retained(rig, KEPT)
    await retained.begin()
    steady = await rig.receive(Traffic(count=300))
    assert steady.reception.packets == 300
    late = await retained.end()
    assert (late.frames, late.changed) == (KEPT, 0)
    await rig.unload()
    await rig.exposed(wait_s=3)
    joined = (await rig.trace_join(tracer))["nic"]
    await rig.check_guest()
    return joined, rig.devices.call("verdict")


@pytest.mark.parametrize(
    ("iommu", "strategy"), [("intel-strict", "map_per_packet"), ("virtio-lazy", "page_pool")]
)
def test_guests_own_unmaps_and_the_devices_view_disagree(
    artifacts: Artifacts, tmp_path: Path, iommu: Iommu, strategy: Strategy
):
    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, iommu, tmp_path, vm, SMALL) as rig:
            joined, verdict = await traced_life(rig, strategy)
        assert (joined.lost, joined.unmatched) == (0, 0)
        assert joined.clock.samples > 250
        assert joined.clock.error_ns < 2_000_000  # of a window of 10 ms and more
        (seen,) = verdict["exposures"]
        assert verdict["violations"] == []
        assert seen["unmatched"] == 0
        if iommu == "intel-strict":
            assert (verdict["word"], seen["windows"]) == ("clean", 0)
        else:
            assert verdict["word"] == "exposed"
            assert seen["windows"] >= 256 and seen["longest_ns"] > joined.clock.error_ns
        judged = verdict["not_judged"]["nic"]
        assert not {"O-6", "O-9", "O-10", "O-16", "O-17", "O-20"} & judged.keys()
        assert ("O-8" in judged) == (strategy == "map_per_packet")

    asyncio.run(scene())
