# SPDX-License-Identifier: MIT
"""X-57 on the rung vm: no memory while rings are built, rebuilt and refilled.

Where the guest's kernel has fault injection, allocations that the driver makes in a call fail, one
in each call, the first eight in turn, and then some by chance under traffic. Where it has not,
memory is short: a hog eats it until the kernel kills it, again and again, while the same calls are
made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from emulator.faults.fault import Outcome
from testbed.errors import RigError
from testbed.faults.vm import Came, FaultGuest
from testbed.guest_facts import ethtool_value
from testbed.laboratory import Traffic
from testbed.rig import GUEST_ADDRESS
from vm.checkers import can_fail
from vm.failing import FailingAllocations, Sweep

MODULE = "dmabed_nic"
#: Of a hundred allocations of the driver under traffic.
CHANCE = 20
_TRAFFIC = Traffic(count=600, rate_pps=1500, flows=8)
_BACK_S = 60.0
#: The smallest ring, so that a sweep is over soon.
_SMALL = 64
#: More than probe ever makes allocations.
_PROBES_MOST = 10_000
_HOG_S = 6
#: What is left free before the hog starts, in KiB, so that it is soon at the end.
_LEFT_KIB = 16384
#: Memory is filled up; then hogs follow each other, each killed by the kernel, their shell spared.
_HOG = (
    "free=$(awk '/MemAvailable/ {{ print $2 }}' /proc/meminfo);"
    " mount -t tmpfs -o size=100% hog /mnt;"
    " head -c $((free - {left}))k /dev/zero > /mnt/fill;"
    " end=$(($(cut -d. -f1 /proc/uptime) + {seconds})); echo -1000 > /proc/self/oom_score_adj;"
    " while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do"
    " sh -c 'echo 1000 > /proc/self/oom_score_adj; exec tail /dev/zero' >/dev/null 2>&1; done;"
    " umount /mnt"
)


async def failing_allocations(guest: FaultGuest) -> Came:
    """The play: what is short, then traffic that must come whole."""
    await guest.stop_pings()
    rig = guest.rig
    if can_fail(rig.guest.artifacts.kernel):
        said = await _injected(guest)
    else:
        said = await _pressed(guest)
    await rig.guest.run(f"ip link set {rig.interface} up")
    await rig.await_carrier(rig.interface)
    await guest.answered(_BACK_S)
    await guest.clean_traffic()
    missed = await _counted(guest)
    outcome = Outcome.DETECTED if missed else Outcome.SURVIVED
    return Came(outcome, f"{said}; {missed} pages missed")


def _calls(name: str) -> dict[str, tuple[str, str]]:
    """What is done to the interface, allocations failing, and before it, undisturbed.

    Rings and channels are changed to what they are not, whether or not the last change failed.
    """
    up, down = f"ip link set {name} up", f"ip link set {name} down"
    rings = f"rings=$({ethtool_value('-g', 'RX', name)})"
    pairs = f"pairs=$({ethtool_value('-l', 'Combined', name)})"
    return {
        "up": (up, down),
        "-G": (f"ethtool -G {name} rx $(({3 * _SMALL} - rings))", f"{up}; {rings}"),
        "-L": (f"ethtool -L {name} combined $((3 - pairs))", f"{up}; {pairs}"),
    }


async def _injected(guest: FaultGuest) -> str:
    """Every allocation of each call in turn, then some by chance."""
    rig = guest.rig
    name, run = rig.interface, rig.guest.run
    failing = FailingAllocations(rig.guest, MODULE)
    await run(f"ethtool -G {name} rx {_SMALL} tx {_SMALL}")
    await failing.confine()
    sweeps = {
        call: await failing.sweep(command, before)
        for call, (command, before) in _calls(name).items()
    }
    address = (await rig.addresses())[0]
    driver = f"/sys/bus/pci/drivers/{MODULE}"
    sweeps["probe"] = await failing.sweep(
        f"sh -c 'echo {address} > {driver}/bind'",
        f"[ ! -e {driver}/{address} ] || echo {address} > {driver}/unbind",
        most=_PROBES_MOST,
    )
    rig.interface = name = (await rig.interfaces())[0]
    await run(f"ip addr add {GUEST_ADDRESS} dev {name}; ip link set {name} up")
    before = await failing.failures()
    await failing.by_chance(CHANCE)
    try:
        await _under_traffic(guest, (f"ethtool -G {name} rx {_SMALL}", f"ip link set {name} down"))
    finally:
        await failing.by_chance(0)
    by_chance = await failing.failures() - before
    return f"{_told(sweeps)}; {by_chance} failed by chance under traffic"


async def _under_traffic(guest: FaultGuest, calls: Sequence[str]) -> None:
    """Traffic, and calls that may fail meanwhile; the interface is up again and again."""
    rig = guest.rig
    rig.devices.call("send", "nic", _TRAFFIC)
    for call in calls:
        await asyncio.sleep(0.5)
        await rig.guest.run(call, check=False)
        await rig.guest.run(f"ip link set {rig.interface} up", check=False)
    await asyncio.sleep(0.5)
    rig.devices.call("unplug", "nic")


def _told(sweeps: dict[str, Sweep]) -> str:
    """Raises RigError: a sweep found nothing to fail, or did not come to its end."""
    for call, sweep in sweeps.items():
        if not sweep.failures or not sweep.ended:
            raise RigError(f"{call}: {sweep}: its allocations were not all made to fail")
    parts = [f"{call} {s.failures} ({s.refused} refused)" for call, s in sweeps.items()]
    return f"allocations failed one by one: {', '.join(parts)}"


async def _pressed(guest: FaultGuest) -> str:
    """Memory runs out while rings are rebuilt and refilled; the kernel kills the hog."""
    rig = guest.rig
    name = rig.interface
    hog = asyncio.create_task(
        rig.guest.run(
            _HOG.format(left=_LEFT_KIB, seconds=_HOG_S), timeout_s=20 * _HOG_S, check=False
        )
    )
    calls = [
        f"ethtool -G {name} rx 1024", f"ethtool -L {name} combined 1", f"ip link set {name} down",
        f"ethtool -L {name} combined 2", f"ethtool -G {name} rx 256",
    ]  # fmt: skip
    while not hog.done():
        await _under_traffic(guest, calls)
    await hog
    said = await rig.guest.run("dmesg | grep -c 'Out of memory: Killed'", check=False)
    killed = int(said.stdout or 0)
    if not killed:
        raise RigError(f"memory was never short in {_HOG_S} s: the kernel killed nobody")
    return f"memory was short, the kernel killed the hog {killed} times"


async def _counted(guest: FaultGuest) -> int:
    """Receive buffers that the driver could not have, summed over its queues."""
    said = await guest.rig.guest.run(f"ethtool -S {guest.rig.interface}")
    return sum(map(int, re.findall(r"rx_alloc_fail: (\d+)", said.stdout)))
