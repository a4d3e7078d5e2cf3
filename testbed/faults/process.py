# SPDX-License-Identifier: MIT
"""X-47 and X-58 on the rung vm: PCIe errors, and the device's process stopped, killed, restarted.

Each takes a guest of its own: what is done here may cost the device for good.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from emulator.faults.fault import Outcome
from emulator.ledger import Policy
from testbed.device_process import DeviceProcess
from testbed.errors import LaboratoryError, RigError
from testbed.faults.results import FaultResult
from testbed.faults.vm import RUNG, FaultGuest
from testbed.laboratory import NicSpec
from testbed.rig import GUEST_ADDRESS
from vm.errors import GuestError, VmError
from vm.machine import VfioUserDevice

STOPPED_S = 10.0
_GONE_S = 30.0
_LINK_S = 8.0
_BACK_S = 60.0


class Play(NamedTuple):
    """One of them: its number, what it shows, what is right, and what it does."""

    number: str
    shows: str
    expect: frozenset[Outcome]
    act: Callable[[FaultGuest], Awaitable[Came]]


Came = tuple[Outcome, str]
"""What came of it, and what was seen."""


async def _inject(guest: FaultGuest, error: str) -> None:
    said = await guest.rig.guest.qmp(
        "human-monitor-command", {"command-line": f"pcie_aer_inject_error port0 {error}"}
    )
    if not str(said).startswith("OK"):
        raise RigError(f"QEMU did not inject the error: {str(said).strip()}")
    await asyncio.sleep(2)


async def aer_non_fatal(guest: FaultGuest) -> Came:
    """A completion timeout at the root port, by QEMU: the driver's handlers run, all three."""
    await _inject(guest, "COMP_TIME")
    await guest.answered(_BACK_S)
    return Outcome.RECOVERED, await _kernel_said(guest, "AER: device recovery")


async def aer_fatal(guest: FaultGuest) -> Came:
    """A malformed TLP at the root port: fatal, the link is reset.

    QEMU 11.1's root port does not report its link as active again, and the kernel gives the
    recovery up; then the driver has to let itself be removed.
    """
    await _inject(guest, "MALF_TLP")
    try:
        await guest.answered(_LINK_S)
    except RigError:
        seconds = await guest.remove_driver()
        said = await _kernel_said(guest, "AER: device recovery|Link Active")
        return Outcome.SURVIVED, f"driver gone in {seconds:.1f} s; {said}"
    return Outcome.RECOVERED, await _kernel_said(guest, "AER: device recovery")


async def device_stopped(guest: FaultGuest) -> Came:
    """The process is stopped for ten seconds: twice as long as QEMU waits for an answer."""
    pid = guest.rig.devices.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    await guest.answered(_BACK_S)
    return Outcome.RECOVERED, await _kernel_said(guest, "dmabed")


async def device_killed(guest: FaultGuest) -> Came:
    """The process dies: guest and driver live on, and the driver can be taken away."""
    await guest.stop_pings()
    os.kill(guest.rig.devices.pid, signal.SIGKILL)
    await asyncio.sleep(1)
    return Outcome.SURVIVED, f"driver gone in {await guest.remove_driver():.1f} s"


async def device_restarted(guest: FaultGuest) -> Came:
    """The device is unplugged under its driver, its process ended, and a new one plugged in.

    It is unplugged first because QEMU 11.1 aborts when a device whose process is dead is deleted
    (system/memory.c, memory_region_del_subregion: subregion->container == mr).
    """
    rig = guest.rig
    await guest.stop_pings()
    begin = time.monotonic()
    await rig.guest.unplug("dev0")
    await _until_gone(guest)
    seconds = time.monotonic() - begin
    os.kill(rig.devices.pid, signal.SIGKILL)
    spec = rig.specs[0]
    spec.socket.unlink(missing_ok=True)
    with DeviceProcess([spec], Policy(), None) as devices:
        rig.devices = devices
        await _plug_again(guest, spec)
        await guest.answered(_BACK_S)
    return Outcome.RECOVERED, f"unplugged in {seconds:.1f} s, a new device answered"


async def _until_gone(guest: FaultGuest) -> None:
    """Returns when QEMU has let go of the device: later than the guest does.

    Raises:
        RigError: it does not.
    """
    deadline = time.monotonic() + _GONE_S
    while any(item["name"] == "dev0" for item in await _peripherals(guest)):
        if time.monotonic() > deadline:
            raise RigError(f"the device was not unplugged in {_GONE_S} s")
        await asyncio.sleep(0.2)


async def _peripherals(guest: FaultGuest) -> list[dict[str, str]]:
    path = {"path": "/machine/peripheral"}
    items: list[dict[str, str]] = await guest.rig.guest.qmp("qom-list", path)
    return items


async def _plug_again(guest: FaultGuest, spec: NicSpec) -> None:
    rig = guest.rig
    await asyncio.sleep(1)
    await rig.guest.plug(VfioUserDevice(str(spec.socket)), "again", "port0")
    await rig.await_device()
    rig.interface = (await rig.interfaces())[0]
    await rig.guest.run(f"ip link set {rig.interface} up")
    await rig.await_carrier(rig.interface)
    await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")


async def _kernel_said(guest: FaultGuest, pattern: str) -> str:
    said = await guest.rig.guest.run(f"dmesg | grep -E '{pattern}' | tail -3", check=False)
    return " | ".join(line.partition("] ")[2] for line in said.stdout.splitlines())


BACK = frozenset({Outcome.RECOVERED})
PLAYS: Mapping[str, Play] = MappingProxyType(
    {
        "aer-non-fatal": Play(
            "X-47", "an uncorrectable error is reported and survived", BACK, aer_non_fatal
        ),
        "aer-fatal": Play(
            "X-47", "after a fatal error the NIC works again, or lets itself be removed",
            BACK | {Outcome.SURVIVED}, aer_fatal,
        ),
        "device-stopped": Play(
            "X-58", "a device that does not answer for 10 s stops nobody for good", BACK,
            device_stopped,
        ),
        "device-killed": Play(
            "X-58", "a device that dies takes neither guest nor driver with it",
            frozenset({Outcome.SURVIVED}), device_killed,
        ),
        "device-restarted": Play(
            "X-58", "a device that is unplugged and restarted works again", BACK, device_restarted
        ),
    }
)  # fmt: skip


async def play_process(guest: FaultGuest, name: str) -> FaultResult:
    """Plays ``name``, one of :data:`PLAYS`, in a fresh guest."""
    play = PLAYS[name]
    began = time.monotonic()
    try:
        outcome, detail = await play.act(guest)
    except (VmError, RigError, LaboratoryError) as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        outcome = Outcome.BROKEN if isinstance(error, GuestError) else Outcome.STUCK
    warnings = guest.rig.guest.kernel_warnings()
    if warnings:
        outcome, detail = Outcome.BROKEN, f"{warnings}; {detail}"
    seconds = time.monotonic() - began
    return FaultResult(play.number, name, RUNG, outcome, play.expect, seconds * 1e3, 1, detail)
