# SPDX-License-Identifier: MIT
"""The guest's own trace of its DMA API against what the device saw, on one clock."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from emulator.ledger.join import Joined
from testbed import trace_stream
from testbed.guest_facts import Retained
from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, Strategy, VmPlan
from vm.artifacts import Artifacts
from vm.trace import BUFFER_KIB

pytestmark = pytest.mark.vm

KEPT = 40
SMALL = NicPlan(queues=1, rx_ring=256, tx_ring=256)
FRAMES = 1000


async def traced_life(
    rig: Rig, strategy: Strategy, buffer_kib: int = BUFFER_KIB
) -> tuple[Joined, dict[str, Any]]:
    """Load, traffic, unload, all of it traced; what the trace told, and the verdict."""
    await rig.load_sink(verify=True)
    stream = await rig.trace(buffer_kib)
    await rig.load(strategy, SMALL)
    retained = Retained(rig, KEPT)
    await retained.begin()
    steady = await rig.receive(Traffic(count=FRAMES))
    assert steady.reception.packets == FRAMES
    late = await retained.end()
    assert (late.frames, late.changed) == (KEPT, 0)
    await rig.unload()
    await rig.exposed(wait_s=3)
    joined = (await stream.end())["nic"]
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
            await rig.load(strategy, SMALL)  # the first time takes the platform's own maps away
            await rig.unload()
            await rig.exposed(wait_s=3)
            before = rig.devices.call("totals", "nic")
            joined, verdict = await traced_life(rig, strategy)
            after = rig.devices.call("totals", "nic")
        assert (joined.lost, joined.unmatched) == (0, 0)
        assert joined.samples > 250
        (seen,) = verdict["exposures"]
        assert verdict["violations"] == []
        assert seen["unmatched"] == 0
        counted = joined.counts
        assert joined.sizes["TABLE"] == 4096 * (after["map_pages"] - before["map_pages"])
        assert joined.sizes["CLEARED"] == 4096 * (after["unmap_pages"] - before["unmap_pages"])
        assert counted["MAPPED"] == counted["UNMAPPED"] and counted["HEAD"] >= FRAMES
        if iommu == "intel-strict":
            assert (verdict["word"], seen["windows"]) == ("clean", 0)
            assert counted["MAPPED"] == 256 + FRAMES
        else:
            assert verdict["word"] == "exposed"
            assert seen["windows"] + seen["prompt"] >= 256
            assert seen["windows"] and seen["longest_ns"] > joined.error_ns
            assert counted["HOLD"] == counted["RELEASE"] == counted["MAPPED"]
        assert (seen["beside_bytes"] > 0) == (strategy == "map_per_packet")
        assert (seen["mapped_bytes"] + seen["beside_bytes"]) == 4096 * counted["MAPPED"]
        judged = verdict["not_judged"]["nic"]
        assert not {"O-5", "O-6", "O-9", "O-10", "O-16", "O-17"} & judged.keys()
        assert counted["KEPT"] == counted["LET_GO"] == KEPT
        # The console was heard; which checkers are missing depends on the kernel.
        assert all("was built without" in why for why in judged.get("O-20", []))
        assert ("O-8" in judged) == (strategy == "map_per_packet")

    asyncio.run(scene())


def test_events_that_the_guest_lost_are_passed_over_in_silence(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trace_stream, "PERIOD_S", 3600)  # nobody reads while the guest traces

    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, SMALL) as rig:
            joined, verdict = await traced_life(rig, "map_per_packet", buffer_kib=64)
        (seen,) = verdict["exposures"]
        assert joined.lost > 0 and seen["trace_lost"] == joined.lost
        assert joined.events + joined.lost >= 5 * FRAMES  # map, unmap, both tables, and the head
        assert (verdict["word"], verdict["violations"]) == ("clean", [])
        judged = verdict["not_judged"]["nic"]
        for rule in ("O-5", "O-8", "O-9", "O-10", "O-16"):
            assert f"lost {joined.lost} events" in str(judged[rule])

    asyncio.run(scene())
