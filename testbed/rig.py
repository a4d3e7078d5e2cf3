# SPDX-License-Identifier: MIT
"""One guest with one of our NICs: the driver loaded in a mode, traffic sent, figures read.

The device side is :class:`testbed.laboratory.Laboratory` in its own process, the guest side the
agent of :mod:`vm.guest`; this is where the two meet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from emulator.iommu.latency import LatencyModel
from emulator.ledger import Policy
from emulator.ledger.facts import Fact
from emulator.ledger.policy import LIMITS_NS, LIMITS_UNDER_FAULTS_NS
from emulator.nic.config import NicConfig
from emulator.nic.identity import VENDOR_ID
from emulator.nic_device import NicDevice
from pool.registry import STRATEGIES
from testbed.benches import NicSpec
from testbed.checks import Excuse, count_pools, tell_checkers
from testbed.device_process import DeviceProcess
from testbed.errors import RigError
from testbed.guest_facts import timed
from testbed.laboratory import Exposed, Traffic
from testbed.measured import MapTimes, Reception, Steady, key_values
from testbed.scenario import Iommu, NicPlan, VmPlan
from testbed.sink import Sink
from testbed.trace_stream import Devices, TraceStream
from vm.artifacts import Artifacts
from vm.checker_files import prepare_checkers
from vm.checkers import boot_arguments
from vm.errors import CommandFailed
from vm.guest import Guest
from vm.invalidation import settle_invalidation
from vm.machine import DEFAULT_MSG_TIMEOUT_MS, GuestConfig, QemuNic, VfioUserDevice
from vm.page_pools import PagePool
from vm.splats import is_kernels_own
from vm.trace import BUFFER_KIB, GuestTracer
from vm.waiting import Looks

DRIVER_SOURCE = Path(__file__).parent.parent / "driver" / "linux"
MAC = bytes.fromhex("02dbed00000a")
#: The guest's address; the peer on the cable is ``emulator.nic.wire.peer.PEER_IP``.
GUEST_ADDRESS = "192.0.2.2/24"

_POLL_S = 0.005
_CARRIER_S = 10.0
#: Frames to find out roughly how fast a guest takes them.
_TRIAL = 500
#: After the last packet: the driver's last refill, and under a lazy IOMMU the flush queue's
#: timer (10 ms, drivers/iommu/dma-iommu.c), with room for a guest under emulation.
_SETTLE_S = 0.1
#: Between two looks at a sink, and how many see nothing new before it is believed to be done.
_LOOK_S = 0.05
_IDLE_LOOKS = 20


class Rig:
    """A booted guest with the device ``nic``, its driver not loaded; see :func:`open_rig`.

    specs, policy: of its device process.
    """

    def __init__(
        self,
        guest: Guest,
        devices: Devices,
        modules: dict[str, Path],
        nics: Sequence[str] = ("nic",),
    ) -> None:
        self.guest, self.devices = guest, devices
        self.modules, self.nics = modules, tuple(nics)
        self.sink = Sink(guest)
        self.specs: tuple[NicSpec, ...] = ()
        self.policy = Policy()
        self.interface = ""
        self._trace: TraceStream | None = None
        #: What waits are multiplied by: 1 but for a kernel with checkers, see vm/checkers.py.
        self.patience = guest.patience

    # ------------------------------------------------------------------ the driver
    async def load(self, strategy: str, nic: NicPlan | None = None, parameters: str = "") -> None:
        """Loads the driver and brings the interface up; returns when it has a carrier.

        parameters: more of the module's.
        """
        self.expect(strategy)
        await self.guest.insmod(self.modules["dmabed_nic"], f"rx_mode={strategy} {parameters}")
        self.interface = (await self.interfaces())[0]
        if nic is not None:
            await self._size_rings(nic)
        await self.guest.run(f"ip link set {self.interface} up")
        await self.await_carrier(self.interface)

    def expect(self, strategy: str) -> None:
        """The ledger is told whether buffers of that ``rx_mode`` stay mapped by design."""
        kept = STRATEGIES[strategy].guarantees.mapped_while_read
        for name in self.nics:
            self.devices.call("mapped_while_read", name, kept)

    async def unload(self) -> None:
        """Interface down, driver gone: the guest has given everything back."""
        await timed(self, "ifdown", f"ip link set {self.interface} down")
        await timed(self, "remove", "rmmod dmabed_nic")

    async def load_sink(self, verify: bool) -> None:
        """The module that counts, and with ``verify`` checks, every test frame that arrives."""
        await self.guest.insmod(self.modules["dmabed_sink"], f"verify={int(verify)}")

    async def await_device(self, count: int = 1) -> None:
        """Returns when the guest has found ``count`` NICs, those that died since included."""
        found = f"grep -l {VENDOR_ID:#06x} /sys/bus/pci/devices/*/vendor | wc -l"
        await self._until(f"[ $({found}) -ge {count} ]", _CARRIER_S, "the NIC to be found")

    async def interfaces(self) -> list[str]:
        """Names of the interfaces of our driver, in the order in which the NICs were named.

        Root ports are numbered in that order; the buses behind them need not be.

        Raises:
            RigError: there is none.
        """
        found = await self.guest.run(
            "for f in /sys/bus/pci/drivers/dmabed_nic/*/net/*; do readlink -f $f; done", check=False
        )
        names = [Path(path).name for path in sorted(found.stdout.split())]
        if not names or names == ["*"]:
            raise RigError("the driver is loaded but no interface appeared; see the console log")
        return names

    async def _size_rings(self, nic: NicPlan) -> None:
        for interface in await self.interfaces():
            await self.guest.run(f"ethtool -G {interface} rx {nic.rx_ring} tx {nic.tx_ring}")

    async def await_carrier(self, interface: str) -> None:
        """Returns when the link of ``interface`` is up."""
        path = f"/sys/class/net/{interface}/carrier"
        await self._until(f'[ "$(cat {path})" = 1 ]', _CARRIER_S, "the link to come up")

    async def _until(self, condition: str, timeout_s: float, what: str) -> None:
        """Waits in the guest until a shell condition holds."""
        tries = int(timeout_s * self.patience / 0.02)
        loop = (
            f"i=0; until {condition}; do i=$((i+1)); [ $i -lt {tries} ] || exit 1; sleep 0.02; done"
        )
        try:
            await self.guest.run(loop, timeout_s=timeout_s * 4)
        except CommandFailed as error:
            raise RigError(f"waited {timeout_s} s in vain for {what}") from error

    # ------------------------------------------------------------------ the guest's own view
    async def addresses(self) -> list[str]:
        """PCI addresses of our NICs in the guest, in the order they were named."""
        vendor = f"{VENDOR_ID:#06x}"
        found = await self.guest.run(
            "cd /sys/bus/pci/devices; for d in *; do"
            f" read v <$d/vendor; [ $v = {vendor} ] && readlink -f $d; done; true"
        )
        return [Path(path).name for path in sorted(found.stdout.split())]

    async def trace(self, buffer_kib: int = BUFFER_KIB) -> TraceStream:
        """The guest's DMA API, traced and streamed to the ledger of each NIC from now on.

        End it with :meth:`~testbed.trace_stream.TraceStream.end`.
        """
        addresses = dict(zip(self.nics, await self.addresses(), strict=True))
        self._trace = TraceStream(GuestTracer(self.guest, buffer_kib), self.devices, addresses)
        await self._trace.begin()
        return self._trace

    async def close(self) -> None:
        """Nothing of the guest is waited for any longer."""
        if self._trace is not None:
            await self._trace.abandon()

    async def check_guest(
        self, since: int = 0, leaks: bool = False, harmless: Excuse = is_kernels_own
    ) -> list[str]:
        """Tells the ledger what the checkers of the guest's kernel say, and returns it.

        since: splats on the console before this one are passed over. leaks: kmemleak looks around
        too, if the kernel has it; that takes seconds. harmless: splats that mean nothing.
        """
        return await tell_checkers(self.guest, self.tell, since, leaks, harmless)

    async def count_pools(self, sink_only: bool = True) -> list[PagePool]:
        """Tells the ledger, at a quiet moment, what the interface's page pools count.

        sink_only: of the stack nobody but the sink has pages, so that all can be accounted for.
        """
        fact, pools = await count_pools(self.guest, self.interface)
        if fact is not None:
            self.tell(fact if sink_only else replace(fact, held=None))
        return pools

    def tell(self, fact: Fact) -> None:
        """Tells the ledger of the first NIC what the guest found out."""
        self.devices.call("tell", self.nics[0], fact)

    # ------------------------------------------------------------------ measurements
    async def map_times(self, pairs: int) -> MapTimes:
        """Times ``pairs`` maps and unmaps of one page for the device, in the guest."""
        bench = "/sys/kernel/debug/dmabed/*/map_bench"
        said = await self.guest.run(f"for f in {bench}; do echo {pairs} > $f; cat $f; done")
        values = key_values(said.stdout)
        names = ("map_ns_avg", "unmap_ns_avg", "map_ns_p50", "unmap_ns_p50")
        return MapTimes(*(float(values[name]) for name in names))

    async def read_time(self, reads: int) -> float:
        """Median ns of ``reads`` register reads, as the guest feels them."""
        bench = "/sys/kernel/debug/dmabed/*/read_bench"
        said = await self.guest.run(f"for f in {bench}; do echo {reads} > $f; cat $f; done")
        return float(key_values(said.stdout)["read_ns_p50"])

    async def latency(self, model: LatencyModel) -> None:
        """How long the IOMMU takes from now on."""
        self.devices.call("latency", "nic", model)

    async def receive(self, traffic: Traffic, timeout_s: float = 60.0) -> Steady:
        """Sends ``traffic`` (with a count) to the guest and waits until it has taken all of it.

        The device's counts run from quiet to quiet, so that they are exact.
        """
        await self.sink.reset()
        self.devices.call("window_begin", "nic")
        self.devices.call("send", "nic", traffic)
        await self.all_sent(timeout_s)
        reception = await self._taken(traffic.count or 0)
        counts = self.devices.call("window_end", "nic")
        self.devices.call("unplug", "nic")
        return Steady(reception, counts)

    async def _taken(self, count: int) -> Reception:
        """What the sink has counted once it has ``count`` packets, or no longer gets any.

        A busy host's guest may be slow: what it has not counted yet is not lost.
        """
        before, idle = -1, 0
        while idle < _IDLE_LOOKS:
            await asyncio.sleep(_LOOK_S * self.patience)
            now = (await self.sink.reception(self.interface)).packets
            if now >= count:
                break
            before, idle = now, idle + 1 if now == before else 0
        # By its own clock: a guest that stood still meanwhile has had none of the host's time.
        await self.guest.run(f"sleep {_SETTLE_S * self.patience}")
        return await self.sink.reception(self.interface)

    async def end_traffic(self, name: str = "nic", timeout_s: float = 20.0) -> None:
        """Unplugs what is sent at ``name``; see :meth:`quiet`."""
        self.devices.call("unplug", name)
        await self.quiet(name, timeout_s)

    async def quiet(self, name: str = "nic", timeout_s: float = 20.0) -> None:
        """Returns when the guest has taken all that came to ``name``, and all it sends is out.

        Raises:
            RigError: there is no end to it.
        """
        allowed = timeout_s * self.patience
        async for _ in Looks(allowed, _POLL_S):
            if self.devices.call("served", name).quiet:
                return
        raise RigError(f"{name}: for {allowed:g} s the driver did not wait for another packet")

    async def receive_for(
        self, seconds: float, warmup: float, traffic: Callable[[int], Traffic]
    ) -> Steady:
        """As :meth:`receive`, for about ``seconds``; the rate is found by warming up first."""
        trial = await self.receive(traffic(_TRIAL))
        rate = trial.reception.packets_per_second
        count = max(int(rate * warmup), 1)
        if count > _TRIAL:
            trial = await self.receive(traffic(count))
            rate = trial.reception.packets_per_second
        return await self.receive(
            traffic(max(int(rate * seconds), 500)), timeout_s=60 + 4 * seconds
        )

    async def all_sent(self, timeout_s: float, name: str = "nic") -> None:
        """Returns when all frames plugged in at ``name`` are on their way into guest memory.

        timeout_s: of a stock kernel; multiplied by :attr:`patience`, like all waits here.

        Raises:
            RigError: the guest does not take them.
        """
        allowed = timeout_s * self.patience
        async for _ in Looks(allowed, _POLL_S):
            sent, done = self.devices.call("sent", name)
            if done:
                return
        raise RigError(f"the guest took only {sent} frames in {allowed:g} s")

    async def exposed(self, wait_s: float = 0.0) -> Exposed:
        """What the device can still reach; waits up to ``wait_s`` for stale mappings to go."""
        async for _ in Looks(wait_s * self.patience, _POLL_S):
            seen: Exposed = self.devices.call("exposed", "nic")
            if not seen.open:
                break
        return seen


@contextlib.asynccontextmanager
async def open_rig(
    artifacts: Artifacts,
    iommu: Iommu,
    folder: Path,
    vm: VmPlan,
    nic: NicPlan,
    nics: Sequence[str] = ("nic",),
    others: Sequence[QemuNic] = (),
    loaded: Sequence[str] = (),
    driver: Path = DRIVER_SOURCE,
    model: type[NicDevice] = NicDevice,
    qemu_args: Sequence[str] = (),
    faulty: bool = False,
    free_ports: int = 0,
    msg_timeout_ms: int = DEFAULT_MSG_TIMEOUT_MS,
) -> AsyncIterator[Rig]:
    """Boots a guest behind ``iommu`` with the NICs ``nics``; logs and sockets go to ``folder``.

    others: NICs of QEMU's own beside ours. loaded: the kernel's modules for them.
    driver: the modules' source. model: of our NICs. qemu_args: appended to QEMU's command line.
    faulty: our NICs can be ordered to misbehave. free_ports: see :class:`vm.machine.GuestConfig`.
    msg_timeout_ms: see :class:`vm.machine.VfioUserDevice`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modules = {path.stem: path for path in artifacts.build_module(driver)}
    configs = [NicConfig(mac=_mac(index), queues=nic.queues) for index in range(len(nics))]
    specs = [
        NicSpec(name, folder / f"{name}.sock", config, faulty, model)
        for name, config in zip(nics, configs, strict=True)
    ]
    config = GuestConfig(
        iommu=iommu,
        memory_mib=vm.memory_mib,
        cpus=vm.cpus,
        devices=[*(VfioUserDevice(str(spec.socket), msg_timeout_ms) for spec in specs), *others],
        modules=loaded,
        free_ports=free_ports,
        kernel_args=boot_arguments(artifacts.kernel),
        qemu_args=qemu_args,
    )
    limits = LIMITS_UNDER_FAULTS_NS if faulty else LIMITS_NS
    policy = Policy(
        lazy=iommu.endswith("lazy"),
        limits_ns={what: round(ns * artifacts.patience) for what, ns in limits.items()},
    )
    with DeviceProcess(specs, policy, folder / "devices.log") as devices:
        async with Guest(artifacts, config, log=folder / "console.log") as guest:
            await settle_invalidation(guest)
            await prepare_checkers(guest)
            rig = Rig(guest, devices, modules, nics)
            rig.specs, rig.policy = tuple(specs), policy
            try:
                yield rig
            finally:
                await rig.close()


def _mac(index: int) -> bytes:
    return MAC[:5] + bytes([MAC[5] + index])
