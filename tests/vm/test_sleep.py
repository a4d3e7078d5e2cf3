# SPDX-License-Identifier: MIT
"""The guest sleeps and wakes under traffic, and the driver with it."""

import asyncio
from pathlib import Path

import pytest

from emulator.faults.plan import parse_plan
from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, VmPlan
from testbed.sleep import Asleep, Sleep
from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm

NIC = NicPlan(queues=2, rx_ring=256, tx_ring=256)
MODES = ("page_pool", "map_per_packet")
FRAMES = 400


async def slept(rig: Rig, sleep: Sleep, own_domain: bool) -> None:
    """Frames keep coming while the guest sleeps twice, and come whole afterwards.

    own_domain: the IOMMU goes on translating meanwhile, or there is none.
    """
    for _ in range(2):
        rig.devices.call("send", "nic", Traffic(count=None, rate_pps=2000, flows=8))
        await asyncio.sleep(0.1)
        async with Asleep(rig, sleep):
            written = rig.devices.call("activity", "nic")
            exposed = await rig.exposed(wait_s=1)
            assert exposed.posted == 0, "the NIC keeps buffers while asleep"
            # An IOMMU that is off maps all memory for all: only D3 keeps the NIC away from it.
            assert (exposed.live == 0) == own_domain, "the NIC keeps memory while asleep"
            await asyncio.sleep(0.1)
            assert rig.devices.call("activity", "nic") == written, "the NIC is awake"
        await rig.end_traffic()
        await rig.await_carrier(rig.interface)
        reception = (await rig.receive(Traffic(count=FRAMES, flows=8))).reception
        assert (reception.packets, reception.errors) == (FRAMES, 0)


# Not behind virtio-iommu, whose driver does not come back from sleep (docs/findings.md).
@pytest.mark.parametrize("sleep", Sleep, ids=lambda sleep: sleep.name.lower())
@pytest.mark.parametrize("iommu", ["intel-strict", "none"])
def test_nic_keeps_memory_or_writes_while_the_guest_sleeps_or_is_dead_after(
    artifacts: Artifacts, tmp_path: Path, iommu: Iommu, sleep: Sleep
):
    own_domain = (iommu, sleep) != ("intel-strict", Sleep.TO_RAM)
    booted = artifacts.that_wakes() if sleep is Sleep.TO_RAM else artifacts

    async def scene():
        async with open_rig(booted, iommu, tmp_path, VmPlan(memory_mib=256), NIC) as rig:
            await rig.load_sink(verify=True)
            for mode in MODES:
                await rig.load(mode, NIC)
                await slept(rig, sleep, own_domain)
                await rig.unload()
            exposed = await rig.exposed(wait_s=3)
            assert (exposed.live, exposed.posted, exposed.open) == (0, 0, 0)
            verdict = rig.devices.call("verdict")
            return verdict, await rig.check_guest()

    verdict, complaints = asyncio.run(scene())
    assert verdict["violations"] == []
    assert "O-17" not in verdict["not_judged"]["nic"]
    assert complaints == []


AWAY = '[[fault]]\nname = "gone"\nlasting_us = 3000000\n'


def test_nic_that_is_away_when_the_guest_wakes_stays_away(artifacts: Artifacts, tmp_path: Path):
    """Its registers read as ones for a while: the driver asks again until it is there."""

    async def scene():
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, NIC, faulty=True) as rig:
            await rig.load_sink(verify=True)
            await rig.load("page_pool", NIC)
            async with Asleep(rig):
                rig.devices.call("arm", "nic", parse_plan(AWAY, "away"))
            await rig.await_carrier(rig.interface)
            said = (await rig.guest.run("dmesg | grep -o 'did not come back.*'")).stdout
            rig.devices.call("disarm", "nic")
            reception = (await rig.receive(Traffic(count=FRAMES, flows=8))).reception
            await rig.unload()
            exposed = await rig.exposed(wait_s=3)
            return said, reception, exposed, rig.devices.call("blames", "nic")

    said, reception, exposed, blames = asyncio.run(scene())
    assert len(said.splitlines()) == 1
    assert (reception.packets, reception.errors) == (FRAMES, 0)
    assert (exposed.live, exposed.posted, exposed.open) == (0, 0, 0)
    assert blames == {}
