# SPDX-License-Identifier: MIT
"""Every receive strategy of the Linux driver in one guest: payload, teardown, the switch."""

import asyncio
import re
from pathlib import Path

import pytest

from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import RX_MODES, NicPlan, VmPlan
from vm.artifacts import Artifacts
from vm.errors import CommandFailed

pytestmark = pytest.mark.vm

NIC = NicPlan(queues=1, rx_ring=128, tx_ring=128)


async def switch(rig: Rig, mode: str, discard: bool = False) -> None:
    """Takes the interface down, checks that nothing is mapped, and brings it up in ``mode``."""
    folder = f"/sys/class/net/{rig.interface}/dmabed"
    await rig.guest.run(f"ip link set {rig.interface} down")
    await nothing_left(rig)
    await rig.guest.run(
        f"echo {mode} > {folder}/rx_mode; echo {int(discard)} > {folder}/rx_discard"
    )
    await rig.guest.run(f"ip link set {rig.interface} up")
    await rig.await_carrier(rig.interface)


async def nothing_left(rig: Rig) -> None:
    exposed = await rig.exposed()
    assert (exposed.live, exposed.at_release, exposed.posted, exposed.open) == (0, 0, 0, 0)


async def checked_frames_arrive(rig: Rig) -> None:
    """Small and large frames, some over several buffers, in bursts that end anywhere."""
    for low, high, count in ((60, 60, 1000), (60, 1514, 777), (60, 9014, 301), (60, 60, 5)):
        steady = await rig.receive(Traffic(low, high, count, flows=3, seed=count))
        assert (steady.reception.packets, steady.reception.errors) == (count, 0)


async def frames_are_discarded(rig: Rig) -> None:
    async def stats() -> dict[str, int]:
        said = (await rig.guest.run(f"ethtool -S {rig.interface}")).stdout
        return {name: int(value) for name, value in re.findall(r"(\w+): (\d+)", said)}

    before = await stats()
    steady = await rig.receive(Traffic(60, 9014, 777))
    after = await stats()
    assert steady.reception.packets == 0
    for name in ("q0_rx_discarded", "q0_rx_packets"):
        assert after[name] - before[name] == 777
    assert after["q0_rx_dropped"] == before["q0_rx_dropped"]


def test_a_strategy_damages_packets_or_leaves_mappings_behind(artifacts: Artifacts, tmp_path: Path):
    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, NIC) as rig:
            await rig.load_sink(verify=True)
            await rig.load("page_pool", NIC)
            await rig.guest.run(f"ip link set {rig.interface} mtu 9000")
            for mode in RX_MODES:
                await switch(rig, mode)
                await checked_frames_arrive(rig)
                await switch(rig, mode, discard=True)
                await frames_are_discarded(rig)
            shown = f"/sys/class/net/{rig.interface}/dmabed/rx_mode"
            assert (await rig.guest.run(f"cat {shown}")).stdout == (
                " ".join([*RX_MODES[:-1], f"[{RX_MODES[-1]}]"]) + "\n"
            )
            with pytest.raises(CommandFailed, match="busy"):
                await rig.guest.run(f"echo page_pool > {shown}")
            await rig.guest.run(f"ip link set {rig.interface} down")
            with pytest.raises(CommandFailed, match="Invalid argument"):
                await rig.guest.run(f"echo half_page > {shown}")
            await rig.unload()
            await nothing_left(rig)
            assert rig.devices.call("verdict")["violations"] == []
            assert rig.guest.kernel_warnings() == []
            assert rig.devices.call("device_errors", "nic") == 0

    asyncio.run(scene())


def test_reset_under_traffic_loses_a_buffer_of_some_strategy(artifacts: Artifacts, tmp_path: Path):
    """Ring sizes are changed while frames arrive: sets are torn down with pages in every state."""

    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, NIC) as rig:
            await rig.load_sink(verify=True)
            await rig.load("page_pool", NIC)
            for mode in RX_MODES:
                await switch(rig, mode)
                rig.devices.call("send", "nic", Traffic(60, 1514, rate_pps=2000))
                for entries in (64, 128):
                    await rig.guest.run(f"ethtool -G {rig.interface} rx {entries}")
                await rig.end_traffic()
                steady = await rig.receive(Traffic(count=300))
                assert (steady.reception.packets, steady.reception.errors) == (300, 0)
            await rig.unload()
            await nothing_left(rig)
            assert rig.devices.call("verdict")["violations"] == []
            assert rig.guest.kernel_warnings() == []

    asyncio.run(scene())
