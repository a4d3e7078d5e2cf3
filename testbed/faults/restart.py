# SPDX-License-Identifier: MIT
"""X-58 on the rung vm: the device's process dies under traffic, and another takes its place.

QEMU's client of a dead process does not connect again, and QEMU 11.1 aborts at any device_del of a
vfio-user-pci device (memory_region_del_subregion, subregion->container == mr). So the dead NIC
stays in its slot, its driver lets it go, and the new process is plugged in at another root port.

QEMU 11.1 also aborts (util/error.c: error_setv, *errp == NULL) where register accesses of the guest
are under way to a process that dies: seen in one death of three on a busy machine. So the guest's
processors stand still for that moment, and what they had written last gets through.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace

from emulator.faults.fault import Outcome
from testbed.device_process import DeviceProcess
from testbed.errors import RigError
from testbed.faults.vm import NIC, Came, FaultGuest
from testbed.laboratory import Traffic
from testbed.rig import GUEST_ADDRESS, Rig
from vm.machine import VfioUserDevice
from vm.waiting import Looks

PORT = "free0"
_ACROSS = Traffic(count=4000, rate_pps=2000, flows=8)
_SOON_S = 0.5
#: Until the device has nothing more to do, and until QEMU has read the end of its socket.
_SEEN_S = 0.5
_NOTICED_S = 15.0
_BACK_S = 30.0
_AFTER = 400


async def device_restarted(guest: FaultGuest) -> Came:
    """Killed under traffic; interface dead, driver gone; a new process, plugged in; traffic again.

    Raises:
        RigError: one of these did not happen.
    """
    rig = guest.rig
    rig.devices.call("send", "nic", _ACROSS)
    await asyncio.sleep(_SOON_S)
    began = time.monotonic()
    await kill_device(guest)
    dead = await _dead_interface(guest)
    removed = await guest.remove_driver()
    spec = replace(rig.specs[0], socket=rig.specs[0].socket.with_name("again.sock"))
    with DeviceProcess([spec], rig.policy) as devices:
        rig.devices = devices
        await rig.guest.plug(VfioUserDevice(str(spec.socket)), "again", PORT)
        back_ms = await _working_nic(guest, began)
        word = await _taken_away(guest)
    detail = (
        f"{dead}; driver gone in {removed:.1f} s; {_AFTER} frames through the new NIC, "
        f"its ledger {word}"
    )
    return Came(Outcome.RECOVERED, detail, back_ms)


async def kill_device(guest: FaultGuest) -> None:
    """Kills the device's process between two instructions of the guest."""
    machine = guest.rig.guest
    await machine.qmp("stop")
    await _at_rest(guest.rig)
    os.kill(guest.rig.devices.pid, signal.SIGKILL)
    await asyncio.sleep(_SEEN_S)
    await machine.qmp("cont")


async def _at_rest(rig: Rig) -> None:
    """Returns when the device has read what a guest that stands still had written last."""
    before = None
    async for _ in Looks(_NOTICED_S, _SEEN_S):
        # Devices are served before calls are answered.
        now = rig.devices.call("activity", "nic")
        if now == before:
            return
        before = now


async def _dead_interface(guest: FaultGuest) -> str:
    """Waits until the interface says that it is dead; what it says."""
    interface = guest.rig.interface
    path = f"/sys/class/net/{interface}/operstate"
    async for _ in Looks(_NOTICED_S, 0.1):
        said = (await guest.rig.guest.run(f"cat {path}", check=False)).stdout.strip()
        if said != "up":
            return f"interface {said or 'gone'}"
    raise RigError(f"{interface} is still up, {_NOTICED_S:.0f} s after its device died")


async def _working_nic(guest: FaultGuest, began: float) -> float:
    """Loads the driver again; ms since ``began`` until the peer answered through the new NIC."""
    rig = guest.rig
    await rig.await_device(2)  # the dead one is still in its slot
    await rig.load("page_pool", NIC)
    await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")
    await guest.answered(_BACK_S)
    back_ms = (time.monotonic() - began) * 1e3
    steady = await rig.receive(Traffic(count=_AFTER, rate_pps=4000, flows=4))
    if steady.reception.packets != _AFTER or steady.reception.errors:
        raise RigError(f"of {_AFTER} frames through the new NIC came {steady.reception}")
    return back_ms


async def _taken_away(guest: FaultGuest) -> str:
    """Driver gone once more: the new process's ledger must be clean; its word."""
    await guest.stop()
    verdict = guest.rig.devices.call("verdict")
    if verdict["violations"]:
        raise RigError(f"the new NIC's ledger: {verdict['violations'][0]}")
    return str(verdict["word"])
