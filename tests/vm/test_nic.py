# SPDX-License-Identifier: MIT
"""Our NIC in a real guest: the Linux driver, real packets, the ledger's verdict."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import dpkt
import pytest

from emulator.ledger import Policy
from emulator.nic.config import NicConfig
from testbed.benches import NicSpec
from testbed.device_process import DeviceProcess
from testbed.laboratory import Traffic
from testbed.rig import DRIVER_SOURCE, GUEST_ADDRESS, MAC, Rig, open_rig
from testbed.scenario import IOMMUS, STRATEGIES, Iommu, NicPlan, Strategy, VmPlan
from vm.artifacts import Artifacts
from vm.machine import VfioUserDevice

pytestmark = pytest.mark.vm

STRICT: Iommu = "intel-strict"
UNDER_IOMMU = [iommu for iommu in IOMMUS if iommu != "none"]

Scene = Callable[[Rig], Awaitable[None]]


@pytest.fixture
def play(artifacts: Artifacts, tmp_path: Path) -> Callable[..., None]:
    """Boots a guest with a NIC, plays a scene in it, and looks for damage afterwards."""

    @contextlib.asynccontextmanager
    async def rig(iommu: Iommu, nic: NicPlan, vm: VmPlan) -> AsyncIterator[Rig]:
        async with open_rig(artifacts, iommu, tmp_path, vm, nic) as opened:
            yield opened
            assert opened.guest.kernel_warnings() == []
            assert opened.devices.call("device_errors", "nic") == 0

    async def run(scene: Scene, iommu: Iommu, nic: NicPlan, vm: VmPlan) -> None:
        async with rig(iommu, nic, vm) as opened:
            await scene(opened)

    def play(
        scene: Scene,
        iommu: Iommu = STRICT,
        nic: NicPlan | None = None,
        vm: VmPlan | None = None,
    ) -> None:
        small = NicPlan(queues=1, rx_ring=256, tx_ring=256)
        asyncio.run(run(scene, iommu, nic or small, vm or VmPlan(memory_mib=256)))

    return play


async def released(rig: Rig) -> None:
    """The driver goes, and with it every mapping, posted buffer and violation."""
    await rig.unload()
    exposed = await rig.exposed(wait_s=3)
    assert (exposed.live, exposed.posted, exposed.open) == (0, 0, 0)
    assert rig.devices.call("verdict")["violations"] == []


def small_nic() -> NicPlan:
    return NicPlan(queues=1, rx_ring=256, tx_ring=256)


@pytest.mark.parametrize("iommu", IOMMUS)
def test_page_pool_maps_nothing_per_packet_once_it_is_warm(play, iommu: Iommu):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load("page_pool", small_nic())
        await rig.receive(Traffic(count=5000, flows=4))
        steady = await rig.receive(Traffic(count=20000, flows=4))
        assert steady.reception.packets == steady.counts["rx_packets"] == 20000
        assert steady.reception.errors == 0
        assert (steady.counts["maps"], steady.counts["unmaps"]) == (0, 0)
        await released(rig)

    play(scene, iommu)


@pytest.mark.parametrize("iommu", UNDER_IOMMU)
def test_map_per_packet_maps_and_unmaps_exactly_once_a_packet(play, iommu: Iommu):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load("map_per_packet", small_nic())
        await rig.receive(Traffic(count=300))
        steady = await rig.receive(Traffic(count=3000))
        assert steady.reception.packets == steady.counts["rx_packets"] == 3000
        assert steady.reception.errors == 0
        assert (steady.counts["maps"], steady.counts["unmaps"]) == (3000, 3000)
        await released(rig)

    play(scene, iommu)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("iommu", ["intel-strict", "virtio-strict"])
def test_strict_leaves_no_mapping_when_memory_is_given_back(play, strategy, iommu):
    async def scene(rig: Rig) -> None:
        await rig.load(strategy, small_nic())
        await rig.unload()
        exposed = await rig.exposed()
        assert (exposed.at_release, exposed.windows, exposed.live) == (0, 0, 0)

    play(scene, iommu)


def test_lazy_leaves_mappings_alive_and_the_window_is_measured(play):
    async def scene(rig: Rig) -> None:
        await rig.load("page_pool", small_nic())
        await rig.unload()
        exposed = await rig.exposed(wait_s=3)
        assert exposed.at_release > 0
        assert exposed.windows >= exposed.at_release
        assert 0 < exposed.longest_ns < 3_000_000_000
        assert rig.devices.call("verdict")["exposed"]

    play(scene, "virtio-lazy")


async def _trace_counts(rig: Rig, act: Callable[[], Awaitable[object]]) -> dict[str, int]:
    """How many iommu:map and iommu:unmap events the guest's own tracer sees while ``act`` runs."""
    run = rig.guest.run
    trace = "/sys/kernel/tracing"
    await run(f"echo 65536 > {trace}/buffer_size_kb; echo > {trace}/trace")
    for event in ("map", "unmap"):
        await run(f"echo 1 > {trace}/events/iommu/{event}/enable")
    await act()
    for event in ("map", "unmap"):
        await run(f"echo 0 > {trace}/events/iommu/{event}/enable")
    lost = await run(f"cat {trace}/per_cpu/cpu0/stats")
    assert "overrun: 0\n" in lost.stdout
    said = await run(
        f"grep -c ' map: ' {trace}/trace; grep -c ' unmap: ' {trace}/trace", check=False
    )
    maps, unmaps = map(int, said.stdout.split())
    return {"maps": maps, "unmaps": unmaps}


@pytest.mark.parametrize("iommu", ["intel-strict", "virtio-strict"])
def test_guests_own_trace_of_maps_equals_what_the_device_saw(play, iommu: Iommu):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=False)
        await rig.load("map_per_packet", small_nic())
        seen: dict[str, int] = {}

        async def act() -> None:
            steady = await rig.receive(Traffic(count=2000))
            seen.update({name: steady.counts[name] for name in ("maps", "unmaps")})

        assert await _trace_counts(rig, act) == seen
        assert seen["maps"] == 2000

    play(scene, iommu)


def test_guest_trace_of_a_whole_life_of_the_driver_equals_the_devices_count(play):
    async def scene(rig: Rig) -> None:
        before = rig.devices.call("totals", "nic")

        async def act() -> None:
            await rig.load("page_pool", small_nic())
            await rig.unload()

        traced = await _trace_counts(rig, act)
        after = rig.devices.call("totals", "nic")
        pages = after["map_pages"] - before["map_pages"]
        assert traced["maps"] > 256  # a ring of buffers at least
        assert (
            after["map_pages"] - before["map_pages"] == after["unmap_pages"] - before["unmap_pages"]
        )
        assert pages >= traced["maps"]

    play(scene, "intel-strict")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "iommu", "low", "high", "count"),
    [
        ("page_pool", "none", 60, 60, 500_000),
        ("page_pool", "intel-strict", 60, 1514, 400_000),
        ("page_pool", "virtio-strict", 60, 9014, 60_000),
        ("map_per_packet", "none", 60, 9014, 60_000),
        ("map_per_packet", "intel-strict", 60, 1514, 10_000),
    ],
)
def test_payload_or_order_is_damaged_on_the_way_to_the_guest(
    play, strategy: Strategy, iommu: Iommu, low: int, high: int, count: int
):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load(strategy, small_nic())
        await rig.guest.run(f"ip link set {rig.interface} mtu 9000")
        steady = await rig.receive(Traffic(low, high, count, flows=8, seed=count), timeout_s=200)
        assert steady.reception.packets == steady.counts["rx_packets"] == count
        assert steady.reception.errors == 0
        await released(rig)

    play(scene, iommu)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_payload_or_order_is_damaged_on_the_way_out_of_the_guest(play, strategy: Strategy):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load(strategy, small_nic())
        await rig.guest.run(f"ip link set {rig.interface} mtu 9000")
        rig.devices.call("send", "nic", Traffic(count=0))
        for order in ((5000, 60, 1), (2000, 1514, 2), (500, 9014, 3), (500, 9014, 4, True)):
            await rig.sink.send(rig.interface, *order)
        await rig.quiet()
        received = rig.devices.call("received", "nic")
        assert (received.frames, received.corrupt, received.misordered) == (8000, 0, 0)
        rig.devices.call("unplug", "nic")
        await released(rig)

    play(scene, STRICT)


def _capture(path: Path, count: int) -> list[bytes]:
    """A pcap file of ``count`` frames of type 0x88B5 with random contents; returns the frames."""
    source = random.Random(count)
    head = b"\xff" * 6 + bytes.fromhex("02dbed000001") + b"\x88\xb5"
    frames = [head + source.randbytes(source.randint(46, 9000)) for _ in range(count)]
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=1 << 16)
        for frame in frames:
            writer.writepkt(frame, 0)
    return frames


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pcap_that_comes_back_from_the_guest_differs_from_the_one_sent(
    play, strategy: Strategy, tmp_path: Path
):
    frames = _capture(tmp_path / "in.pcap", 1500)

    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=False)
        await rig.sink.echo(True)
        # The distribution's default, fq_codel, drops what waits for long; that is its job.
        await rig.guest.run("echo pfifo_fast > /proc/sys/net/core/default_qdisc")
        await rig.load(strategy, small_nic())
        await rig.guest.run(f"ip link set {rig.interface} mtu 9000")
        await rig.guest.run(f"echo 10000 > /sys/class/net/{rig.interface}/tx_queue_len")
        rig.devices.call("replay", "nic", tmp_path / "in.pcap", tmp_path / "out.pcap")
        await rig.all_sent(30)
        # As long as the guest takes: on a busy machine half a second was not enough.
        back = f"cat /sys/class/net/{rig.interface}/statistics/tx_packets"
        async with asyncio.timeout(30):
            while int((await rig.guest.run(back)).stdout) < len(frames):
                await asyncio.sleep(0.05)
        rig.devices.call("unplug", "nic")
        await released(rig)

    play(scene, STRICT)
    with (tmp_path / "out.pcap").open("rb") as file:
        seen = [frame for _, frame in dpkt.pcap.Reader(file)]
    # The capture holds both directions: each frame once on its way in and once on its way back.
    assert len(seen) == 2 * len(frames)
    assert sorted(seen) == sorted(frames + frames)


def test_two_nics_in_one_guest_reach_each_others_memory(artifacts: Artifacts, tmp_path: Path):
    async def scene() -> None:
        nics = ("nic", "other")
        plan = small_nic()
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, STRICT, tmp_path, vm, plan, nics=nics) as rig:
            await rig.load_sink(verify=True)
            await rig.load("page_pool", plan)
            interfaces = await rig.interfaces()
            assert len(interfaces) == 2
            for interface in interfaces:
                await rig.guest.run(f"ip link set {interface} up")
                await rig.await_carrier(interface)
            await rig.sink.reset()
            for name in nics:
                rig.devices.call("send", name, Traffic(60, 1514, 5000, flows=2))
            for name in nics:
                await rig.all_sent(30, name)
                await rig.quiet(name)
            for interface in interfaces:
                seen = await rig.sink.reception(interface)
                assert (seen.packets, seen.errors) == (5000, 0)
            await rig.guest.rmmod("dmabed_nic")
            verdict = rig.devices.call("verdict")
            assert verdict["violations"] == []
            assert all(seen["live"] == 0 for seen in verdict["exposures"])
            assert rig.guest.kernel_warnings() == []

    asyncio.run(scene())


def test_peer_does_not_answer_ping_and_ethtool_does_not_know_the_nic(play):
    async def scene(rig: Rig) -> None:
        await rig.load("page_pool", small_nic())
        await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")
        ping = await rig.guest.run("ping -c 5 -i 0.05 -s 1400 192.0.2.1")
        assert "5 packets received" in ping.stdout
        info = await rig.guest.run(f"ethtool -i {rig.interface}")
        assert "driver: dmabed_nic" in info.stdout
        rings = await rig.guest.run(f"ethtool -g {rig.interface}")
        assert rings.stdout.count("256") >= 2
        stats = await rig.guest.run(f"ethtool -S {rig.interface}")
        values = dict(line.split(":") for line in stats.stdout.splitlines()[1:])
        packets = [int(v) for name, v in values.items() if "rx" in name and "packets" in name]
        assert any(value >= 5 for value in packets)

    play(scene)


@pytest.mark.parametrize("iommu", ["none", STRICT])
def test_nic_plugged_into_a_restored_guest_is_not_found_or_does_not_work(
    artifacts: Artifacts, saved_guests: Callable[[Iommu], Any], tmp_path: Path, iommu: Iommu
):
    snapshot = saved_guests(iommu).snapshot

    async def scene() -> None:
        spec = NicSpec("nic", tmp_path / "nic.sock", NicConfig(mac=MAC, queues=1))
        with DeviceProcess([spec], Policy()) as devices:
            guest = await snapshot.restore(artifacts)
            try:
                await guest.plug(VfioUserDevice(str(spec.socket)))
                modules = {path.stem: path for path in artifacts.build_module(DRIVER_SOURCE)}
                rig = Rig(guest, devices, modules)
                await rig.await_device()
                await rig.load_sink(verify=True)
                await rig.load("page_pool", small_nic())
                steady = await rig.receive(Traffic(60, 1514, 3000, flows=4))
                assert (steady.reception.packets, steady.reception.errors) == (3000, 0)
                await released(rig)
                assert guest.kernel_warnings() == []
            finally:
                await guest.stop()

    asyncio.run(scene())


def test_rings_and_channels_cannot_be_changed_under_traffic(play):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load("page_pool", NicPlan(queues=4, rx_ring=512, tx_ring=256))
        rig.devices.call("send", "nic", Traffic(60, 1514, rate_pps=5000, flows=8))
        for change in (
            "-G {i} rx 128",
            "-L {i} combined 2",
            "-G {i} rx 1024 tx 64",
            "-L {i} combined 1",
        ):
            await rig.guest.run("ethtool " + change.format(i=rig.interface))
        await rig.end_traffic()
        steady = await rig.receive(Traffic(count=2000))
        assert (steady.reception.packets, steady.reception.errors) == (2000, 0)
        await released(rig)

    play(scene, STRICT, NicPlan(queues=4), VmPlan(memory_mib=256, cpus=2))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_200_loads_and_unloads_under_traffic_leave_something_behind(play):
    async def scene(rig: Rig) -> None:
        rig.devices.call("send", "nic", Traffic(60, 1514, rate_pps=400, flows=4))
        await rig.guest.push(rig.modules["dmabed_nic"], "/tmp/nic.ko")
        await rig.guest.run(
            f"for i in $(seq {round(200 / rig.patience)}); do"
            " m=page_pool; [ $((i % 2)) = 0 ] || m=map_per_packet;"
            " insmod /tmp/nic.ko rx_mode=$m && ip link set eth0 up && rmmod dmabed_nic || exit 1;"
            " done",
            timeout_s=500,
        )
        rig.devices.call("unplug", "nic")
        exposed = await rig.exposed(wait_s=3)
        assert (exposed.live, exposed.posted, exposed.open) == (0, 0, 0)
        assert rig.devices.call("verdict")["violations"] == []

    play(scene)


def test_50_link_flaps_under_traffic_leave_something_behind(play):
    async def scene(rig: Rig) -> None:
        await rig.load_sink(verify=True)
        await rig.load("page_pool", small_nic())
        rig.devices.call("send", "nic", Traffic(60, 1514, rate_pps=20000, flows=4))
        for _ in range(50):
            rig.devices.call("link", "nic", False)
            await asyncio.sleep(0.01)
            rig.devices.call("link", "nic", True)
            await asyncio.sleep(0.01)
        await rig.await_carrier(rig.interface)
        await rig.end_traffic()
        steady = await rig.receive(Traffic(count=5000, flows=4))
        assert (steady.reception.packets, steady.reception.errors) == (5000, 0)
        assert (steady.counts["maps"], steady.counts["unmaps"]) == (0, 0)
        await released(rig)

    play(scene)
