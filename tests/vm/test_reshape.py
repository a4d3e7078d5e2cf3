# SPDX-License-Identifier: MIT
"""Rings and channels are changed while the guest sends as fast as it can.

A poll that is under way while the rings go down finds completions and wakes the transmit queue: a
sender that comes then meets a driver without rings.
"""

import asyncio
from pathlib import Path

import pytest

from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import NicPlan, VmPlan
from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm

NIC = NicPlan(queues=2, rx_ring=128, tx_ring=64)
ROUNDS = 20


async def senders(rig: Rig) -> None:
    """In the guest, until told to end: one a queue; those of a queue that is gone come again."""
    for flow in range(NIC.queues):
        await rig.guest.run(
            f"(until [ -e /tmp/end ]; do echo send {rig.interface} 1000 60 {flow}"
            " > /proc/dmabed_sink 2>/dev/null || sleep 0.01; done) >/dev/null 2>&1 &"
        )


def test_sender_meets_a_driver_without_rings(artifacts: Artifacts, tmp_path: Path):
    async def scene():
        vm = VmPlan(memory_mib=256, cpus=2)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, NIC) as rig:
            await rig.load_sink(verify=False)
            await rig.load("page_pool", NIC)
            rig.devices.call("send", "nic", Traffic(count=0))
            await senders(rig)
            for round_ in range(round(ROUNDS / rig.patience)):
                change = ("-G {} tx 128", "-L {} combined 1", "-G {} tx 64", "-L {} combined 2")
                await rig.guest.run("ethtool " + change[round_ % 4].format(rig.interface))
            sent = rig.devices.call("received", "nic").frames
            await rig.guest.run("touch /tmp/end; wait; sleep 0.2")
            await rig.quiet()
            steady = await rig.receive(Traffic(count=500))
            await rig.unload()
            exposed = await rig.exposed(wait_s=3)
            verdict = rig.devices.call("verdict")
            return sent, steady.reception, exposed, verdict, await rig.check_guest()

    sent, reception, exposed, verdict, complaints = asyncio.run(scene())
    assert sent > 1000
    assert reception.packets == 500
    assert (exposed.live, exposed.posted, exposed.open) == (0, 0, 0)
    assert (verdict["violations"], complaints) == ([], [])
