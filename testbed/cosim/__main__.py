# SPDX-License-Identifier: MIT
"""``make cosim``: boots the guest on the RTL, passes packets both ways, pings, prints figures."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import DmabedError
from emulator.nic.wire.peer import PEER_IP
from emulator.nic.wire.testframes import HEADER_END
from testbed.cosim.process import SimulatorProcess
from testbed.cosim.state import stalled
from testbed.errors import TestbedError
from testbed.laboratory import Received, Traffic
from testbed.measured import Reception
from testbed.rig import DRIVER_SOURCE, GUEST_ADDRESS, MAC, Rig
from testbed.scenario import Iommu
from vm.artifacts import setup
from vm.errors import VmError
from vm.guest import Guest
from vm.machine import GuestConfig, VfioUserDevice
from vm.waiting import Looks

PACKETS = 1000
IOMMU: Iommu = "intel-strict"
MESSAGE_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Result:
    """What a co-simulation showed."""

    text: str
    ok: bool


async def cosimulate(
    folder: Path,
    packets: int = PACKETS,
    others: Sequence[VfioUserDevice] = (),
    then: Callable[[Rig], Awaitable[None]] | None = None,
) -> Result:
    """Boots, runs and judges; logs go to ``folder``.

    others: more devices of the guest. then: called before the NIC's driver goes.

    Raises:
        CosimStallError: the guest or the simulator did not get on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = setup(print)
    modules = {path.stem: path for path in artifacts.build_module(DRIVER_SOURCE)}
    socket = folder / "nic.sock"
    seed = os.environ.get("SEED") or "1"
    settings = {"COSIM_SOCKET": str(socket), "COSIM_MAC": MAC.hex(), "COSIM_LAZY": "0"}
    settings["COSIM_SEED"] = seed
    # Two CPUs: a single emulated one has the PIT as its only timer, and its timers were seen to
    # stop over the long register accesses of a simulation.
    # And a reply may take longer than the 5 s after which QEMU takes a device for dead.
    nic = VfioUserDevice(str(socket), msg_timeout_ms=MESSAGE_TIMEOUT_MS)
    config = GuestConfig(iommu=IOMMU, cpus=2, devices=[nic, *others])
    with SimulatorProcess(folder, settings) as devices:
        async with Guest(artifacts, config, log=folder / "console.log") as guest:
            rig = Rig(guest, devices, modules)
            try:
                return await _traffic(rig, packets, then)
            except (TestbedError, VmError) as error:
                raise await stalled(rig, devices, error) from error


async def _traffic(rig: Rig, packets: int, then: Callable[[Rig], Awaitable[None]] | None) -> Result:
    await rig.load_sink(verify=True)
    await rig.load("page_pool")
    read_ns = await rig.read_time(50)
    before, begin = rig.devices.call("figures"), time.monotonic()
    steady = await rig.receive(Traffic(low=HEADER_END + 30, high=1514, count=packets))
    sent = await _send(rig, packets)
    await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")
    ping = await rig.guest.run(f"ping -c 3 {PEER_IP}", check=False)
    seconds = time.monotonic() - begin
    if then is not None:
        await then(rig)
    await rig.unload()
    after = rig.devices.call("figures")
    figures = _figures(before, after, seconds, 2 * packets, read_ns)
    result = _judge(rig, packets, steady.reception, sent, ping.stdout, figures)
    # Every one of Linux's unmaps ended in an invalidate, and none of them came too late.
    kept = after["hits"] > 0 and after["invalidates"] > 0 and not after["stale"]
    return Result(result.text, result.ok and kept)


async def _send(rig: Rig, packets: int, timeout_s: float = 60.0) -> Received:
    """The guest sends test frames; what came out of the RTL."""
    rig.devices.call("send", "nic", Traffic(count=0))
    await rig.sink.send(rig.interface, packets, 700)
    async for _ in Looks(timeout_s, 0.1):
        seen: Received = rig.devices.call("received", "nic")
        if seen.frames >= packets:
            break
    rig.devices.call("unplug", "nic")
    return seen


def _figures(
    before: dict[str, Any], after: dict[str, Any], seconds: float, packets: int, read_ns: float
) -> str:
    spent = {name: after[name] - before[name] for name in before}
    rate = spent["cycles"] / max(spent["simulated_s"], 1e-9)
    each = spent["invalidate_cycles"] / max(spent["invalidates"], 1)
    return (
        f"{spent['cycles']} simulated cycles, {rate:.0f} a second; "
        f"{60 * packets / seconds:.0f} packets a minute; MMIO read {read_ns / 1000:.0f} us; "
        f"longest wait of the guest {after['slowest_s']:.2f} s, "
        f"{after['late']} loops loaded meanwhile\n"
        f"ATS: {after['translations']} translations, {after['hits']} hits, "
        f"{after['invalidates']} invalidates ({each:.0f} cycles each), {after['stale']} stale"
    )


def _judge(
    rig: Rig, packets: int, reception: Reception, sent: Received, ping: str, figures: str
) -> Result:
    verdict = rig.devices.call("verdict")
    complete = reception.packets == sent.frames == packets
    whole = not (reception.errors or sent.corrupt or sent.misordered)
    good = bool(verdict["ok"]) and complete and whole and " 0% packet loss" in ping
    lines = [
        f"to the guest: {reception.packets} of {packets} frames, {reception.errors} damaged",
        f"from the guest: {sent.frames} of {packets} frames, {sent.corrupt} damaged",
        *[line for line in ping.splitlines() if "packet loss" in line],
        figures,
        *verdict["summary"],
    ]
    return Result("\n".join(lines), good)


def main() -> None:
    """Prints the result; ends with 1 if anything was wrong."""
    folder = Path("out") / time.strftime("%Y%m%d-%H%M%S-cosim")
    try:
        result = asyncio.run(cosimulate(folder.resolve()))
    except DmabedError as error:
        sys.exit(f"cosim: {error}")
    print(f"{result.text}\nseed: {os.environ.get('SEED') or 1}")
    print(f"logs: {folder}")
    waves = folder / "dump.vcd"
    print(f"waves: {waves if waves.exists() else 'none, run with WAVES=1'}")
    sys.exit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
