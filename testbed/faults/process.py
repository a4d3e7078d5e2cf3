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
from testbed.faults.vm import CALL_BOUND_S, RUNG, FaultGuest
from testbed.laboratory import NicSpec
from testbed.rig import GUEST_ADDRESS
from vm.errors import GuestError, VmError
from vm.machine import VfioUserDevice

STOPPED_S = 10.0
_GONE_S = 30.0
_BACK_S = 60.0


class Play(NamedTuple):
    """One of them: its number, what it shows, what is right, and what it does."""

    number: str
    shows: str
    expect: frozenset[Outcome]
    act: Callable[[FaultGuest], Awaitable[str]]


async def _aer(guest: FaultGuest, error: str) -> str:
    said = await guest.rig.guest.qmp(
        "human-monitor-command", {"command-line": f"pcie_aer_inject_error port0 {error}"}
    )
    if not str(said).startswith("OK"):
        raise RigError(f"QEMU did not inject the error: {str(said).strip()}")
    await asyncio.sleep(2)
    await guest.answered(_BACK_S)
    return await _kernel_said(guest, "AER|pcieport|slot_reset|recover")


async def aer_non_fatal(guest: FaultGuest) -> str:
    """A completion timeout at the root port, by QEMU."""
    return await _aer(guest, "COMP_TIME")


async def aer_fatal(guest: FaultGuest) -> str:
    """A malformed TLP at the root port: fatal, the link is reset."""
    return await _aer(guest, "MALF_TLP")


async def device_stopped(guest: FaultGuest) -> str:
    """The process is stopped for ten seconds: twice as long as QEMU waits for an answer."""
    pid = guest.rig.devices.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    await guest.answered(_BACK_S)
    return await _kernel_said(guest, "dmabed")


async def device_killed(guest: FaultGuest) -> str:
    """The process dies: guest and driver live on, and the driver can be taken away."""
    return f"driver gone in {await _kill_and_let_go(guest):.1f} s"


async def device_restarted(guest: FaultGuest) -> str:
    """The process dies; its device is unplugged, and plugged in again when it is back."""
    rig = guest.rig
    seconds = await _kill_and_let_go(guest)
    await rig.guest.unplug("dev0")
    await _until_gone(guest)
    spec = rig.specs[0]
    spec.socket.unlink(missing_ok=True)
    with DeviceProcess([spec], Policy(), None) as devices:
        rig.devices = devices
        await _plug_again(guest, spec)
        await guest.answered(_BACK_S)
    return f"driver gone in {seconds:.1f} s, a new device answered"


async def _kill_and_let_go(guest: FaultGuest) -> float:
    """Kills the device process; seconds until the driver was removed."""
    rig = guest.rig
    await guest.stop_pings()
    os.kill(rig.devices.pid, signal.SIGKILL)
    await asyncio.sleep(1)
    begin = time.monotonic()
    await rig.guest.run(f"ip link set {rig.interface} down", timeout_s=CALL_BOUND_S, check=False)
    await rig.guest.run("rmmod dmabed_nic", timeout_s=CALL_BOUND_S)
    return time.monotonic() - begin


async def _until_gone(guest: FaultGuest) -> None:
    deadline = time.monotonic() + _GONE_S
    command = "ls /sys/bus/pci/devices | grep -c 0000:01:00.0"
    while (await guest.rig.guest.run(command, check=False)).stdout.strip() != "0":
        if time.monotonic() > deadline:
            raise RigError(f"the dead device was not unplugged in {_GONE_S} s")
        await asyncio.sleep(0.2)


async def _plug_again(guest: FaultGuest, spec: NicSpec) -> None:
    rig = guest.rig
    await asyncio.sleep(1)
    await rig.guest.plug(VfioUserDevice(str(spec.socket)), "again", "port0")
    await rig.await_device()
    await rig.load("page_pool")
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
            "X-47", "after a fatal error and a slot reset the NIC works again", BACK, aer_fatal
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
            "X-58", "a device that died is replaced by a new one", BACK, device_restarted
        ),
    }
)  # fmt: skip


async def play_process(guest: FaultGuest, name: str) -> FaultResult:
    """Plays ``name``, one of :data:`PLAYS`, in a fresh guest."""
    play = PLAYS[name]
    began = time.monotonic()
    right = next(iter(play.expect))
    try:
        detail, outcome = await play.act(guest), right
    except (VmError, RigError, LaboratoryError) as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        outcome = Outcome.BROKEN if isinstance(error, GuestError) else Outcome.STUCK
    warnings = guest.rig.guest.kernel_warnings()
    if warnings:
        outcome, detail = Outcome.BROKEN, f"{warnings}; {detail}"
    seconds = time.monotonic() - began
    return FaultResult(play.number, name, RUNG, outcome, play.expect, seconds * 1e3, 1, detail)
