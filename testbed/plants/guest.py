# SPDX-License-Identifier: MIT
"""Plants in the kernel module: a guest with two NICs, the module reloaded for each bug.

A bug that kills the guest, as more of them do on a kernel with checkers, is followed by the next
in a new guest.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from emulator.ledger.facts import Checked
from testbed.checks import CONSOLE, tell_console
from testbed.errors import RigError
from testbed.guest_facts import Retained
from testbed.laboratory import Traffic
from testbed.plants.catalogue import BUGS, Catch, PlantedBug, Scene, first_of
from testbed.plants.liar import LiarNic
from testbed.rig import DRIVER_SOURCE, Rig, open_rig
from testbed.scenario import Iommu, NicPlan, VmPlan
from vm.artifacts import Artifacts
from vm.errors import CommandFailed, GuestError, VmError

RUNG = "vm"
SWITCH = "DMABED_PLANTS := y\n"
NOTE_PLANT = 0x100
FRAMES = 200
POOL_OF_TWO = 15
#: Bugs that a rule finds only if the guest traces; and the sound driver, which must not be blamed.
TRACED = (0, 6, 18)
_LATE_FRAMES, _LATE_PPS = 100, 100
#: The bugs that leave the guest's memory in disorder come last; the one that kills it ends all.
ORDER = (1, 2, 4, 5, 13, 15, 17, 18, 21, 20, 19, 3, 8, 6, 10)
_NICS = ("nic", "other")
_RINGS = NicPlan(queues=1, rx_ring=64, tx_ring=64)


def planted_source(folder: Path) -> Path:
    """A copy of the driver's source in ``folder`` whose build has the plants."""
    source = folder / "planted"
    shutil.copytree(DRIVER_SOURCE, source, dirs_exist_ok=True)
    kbuild = source / "Kbuild"
    licence, rest = (DRIVER_SOURCE / "Kbuild").read_text().split("\n", 1)
    kbuild.write_text(f"{licence}\n{SWITCH}{rest}")
    return source


async def run_plants(
    artifacts: Artifacts,
    folder: Path,
    iommu: Iommu = "intel-strict",
    bugs: Sequence[PlantedBug] = BUGS,
    told: Callable[[Catch], None] = lambda _: None,
) -> tuple[Catch | None, list[Catch]]:
    """Plays every bug's scene; first one of a sound driver (the same build, nothing planted).

    told: called with each catch. Returns what the sound driver was blamed of (None: nothing) and
    the catches in order.
    """
    place = {number: at for at, number in enumerate(ORDER)}
    todo = sorted(bugs, key=lambda bug: place[bug.number])
    sound = PlantedBug(0, "no bug", (), "map_per_packet", Scene.SEND)
    blamed, catches = None, list[Catch]()
    for number in itertools.count():
        async with open_rig(
            artifacts, iommu, folder / f"guest-{number}", VmPlan(memory_mib=256), _RINGS,
            nics=_NICS, driver=planted_source(folder), model=LiarNic,
        ) as rig:  # fmt: skip
            await rig.load_sink(verify=False)
            if number == 0:
                blamed = (await _play(rig, sound))[0]
            alive = True
            while todo and alive:
                catch, alive = await _play(rig, todo.pop(0))
                catches.append(catch)
                told(catch)
        if not todo:
            return (blamed if blamed is not None and blamed.spoke else None), catches
    raise AssertionError("counting never ends")


async def _play(rig: Rig, bug: PlantedBug) -> tuple[Catch, bool]:
    """Load, scene, unload; what ledger and checkers found meanwhile, and if the guest lives."""
    call, alive = rig.devices.call, True
    call("forget_violations")
    before, since_ns = len(rig.guest.console.splats), call("clock")
    traced = bug.number in TRACED
    try:
        stream = await rig.trace() if traced else None
        await _scene(rig, bug)
        if stream is not None:
            await stream.end()
        await rig.check_guest(before)
    except (VmError, RigError) as error:
        if bug.number == 0 and not isinstance(error, GuestError):
            raise
        alive = False
        tell_console(rig.guest, rig.tell, before)
        if isinstance(error, GuestError):
            died = str(error).partition("; last console lines")[0]
            rig.tell(Checked(CONSOLE, (died,)))
    acted = [at for at, value in call("notes", since_ns) if value == NOTE_PLANT + bug.number]
    return first_of(bug, RUNG, acted[0] if acted else None, call("found")), alive


async def _scene(rig: Rig, bug: PlantedBug) -> None:
    run, call = rig.guest.run, rig.devices.call
    await rig.load(bug.strategy, _RINGS, f"plant={bug.number}")
    if bug.number == POOL_OF_TWO:
        for interface in await rig.interfaces():
            await run(f"ip link set {interface} up")
    await rig.sink.reset()
    if bug.scene is Scene.HOLD:
        await rig.sink.hold(20)
    if bug.scene is Scene.LIES:
        call("lie", "nic", True)
    late = Retained(rig, FRAMES) if bug.scene is Scene.LATE else None
    if late:
        await late.begin()
    # Late: so slowly that a frame is with the stack before the next one comes.
    rate = _LATE_PPS if late else 4000
    call("send", "nic", Traffic(count=_LATE_FRAMES if late else FRAMES, rate_pps=rate))
    if bug.scene is Scene.LIES:
        await asyncio.sleep(1.0)
    else:
        await rig.all_sent(20)
    call("unplug", "nic")
    if bug.scene is Scene.SEND:
        await rig.sink.send(rig.interface, 3, 1400, fragmented=True)
    if bug.scene is Scene.RELOAD:
        await run(f"ethtool -G {rig.interface} rx 128", check=False)
    await asyncio.sleep(0.1)
    if late:
        await late.end()
    await _unload(rig)
    await rig.sink.hold(0)


async def _unload(rig: Rig) -> None:
    try:
        await rig.unload()
    except CommandFailed:
        await asyncio.sleep(1.0)
        await rig.guest.rmmod("dmabed_nic")
