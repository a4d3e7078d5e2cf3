# SPDX-License-Identifier: MIT
"""X-47, X-57 and X-58 on the rung vm: PCIe errors, no memory, the device's process gone.

Each takes a guest of its own: what is done here may cost the device for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from emulator.faults.fault import Outcome
from emulator.ledger.facts import Took
from testbed.errors import LaboratoryError, RigError
from testbed.faults.allocations import failing_allocations
from testbed.faults.restart import device_restarted, kill_device
from testbed.faults.results import FaultResult
from testbed.faults.vm import RUNG, Came, FaultGuest
from vm.errors import GuestError, VmError
from vm.machine import DEFAULT_MSG_TIMEOUT_MS
from vm.splats import drivers_fault
from vm.waiting import Looks

STOPPED_S = 10.0
#: How long QEMU waits for an answer of a device whose process is stopped by order, in ms. Its own
#: 5 s would make the outcome hang on what the guest was about: see :func:`device_late`.
PATIENT_MS = round(3e3 * STOPPED_S)
_LINK_S = 8.0
#: What the kernel says when it is done with an error, and when it has said nothing.
_HANDLED, _HANDLED_S = "AER: device recovery", 8.0
_BACK_S = 60.0
_HUNG_UP = "bad header size"


class Play(NamedTuple):
    """One of them: its number, what it shows, what is right, and what it does."""

    number: str
    shows: str
    expect: frozenset[Outcome]
    act: Callable[[FaultGuest], Awaitable[Came]]


async def _inject(guest: FaultGuest, error: str) -> str:
    """Injects ``error``; what the kernel says when it has done what it does about it.

    Raises:
        RigError: QEMU does not inject it, or the kernel says nothing in time.
    """
    said = await guest.rig.guest.qmp(
        "human-monitor-command", {"command-line": f"pcie_aer_inject_error port0 {error}"}
    )
    if not str(said).startswith("OK"):
        raise RigError(f"QEMU did not inject the error: {str(said).strip()}")
    async for _ in Looks(_HANDLED_S * guest.rig.patience, 0.1):
        if said := await _kernel_said(guest, _HANDLED):
            return said
    raise RigError(f"the kernel did not handle {error}; has it CONFIG_PCIEAER?")


async def aer_non_fatal(guest: FaultGuest) -> Came:
    """A completion timeout at the root port, by QEMU: the driver's handlers run, all three."""
    said = await _inject(guest, "COMP_TIME")
    await guest.answered(_BACK_S)
    return Came(Outcome.RECOVERED, said)


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
        said = await _kernel_said(guest, f"{_HANDLED}|Link Active")
        return Came(Outcome.SURVIVED, f"driver gone in {seconds:.1f} s; {said}")
    return Came(Outcome.RECOVERED, await _kernel_said(guest, _HANDLED))


async def device_stopped(guest: FaultGuest) -> Came:
    """The process is stopped for ten seconds, and QEMU waits for it (:data:`PATIENT_MS`)."""
    async with _stopped(guest):
        await asyncio.sleep(STOPPED_S)
    await guest.answered(_BACK_S)
    return Came(Outcome.RECOVERED, await _kernel_said(guest, "dmabed"))


async def device_late(guest: FaultGuest) -> Came:
    """The process is stopped until QEMU has given up a register read; then it answers it.

    QEMU gives the guest ones for a read that took longer than its x-msg-timeout. Of the answer that
    comes after it takes the header only ("unexpected reply"); the rest of it passes for the next
    header ("bad header size"), and QEMU shuts the socket (hw/vfio-user/proxy.c, 10.1 to 11.1). An
    answer without a rest, as to DMA_MAP, does no harm. So a device that was only late is as dead as
    one that was killed, and the driver has to let itself be removed.

    Raises:
        RigError: QEMU waited for the read, or did not hang up.
    """
    rig = guest.rig
    await guest.stop_pings()
    async with _stopped(guest):
        said = await rig.guest.run(
            "for f in /sys/kernel/debug/dmabed/*/read_bench; do echo 1 > $f; cat $f; done",
            timeout_s=_BACK_S,
        )
    async for _ in Looks(_HANDLED_S, 0.1):
        if hung_up := _qemu_said(guest, _HUNG_UP):
            break
    else:
        last = rig.guest.qemu_said()[-3:]
        raise RigError(f"QEMU did not hang up; the read: {said.stdout.strip()}; QEMU: {last}")
    seconds = await guest.remove_driver()
    return Came(Outcome.SURVIVED, f"driver gone in {seconds:.1f} s; QEMU hung up: {hung_up}")


@contextlib.asynccontextmanager
async def _stopped(guest: FaultGuest) -> AsyncIterator[None]:
    """Meanwhile the device's process does not run."""
    pid = guest.rig.devices.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _qemu_said(guest: FaultGuest, words: str) -> str:
    return next((line for line in guest.rig.guest.qemu_said() if words in line), "")


async def device_killed(guest: FaultGuest) -> Came:
    """The process dies: guest and driver live on, and the driver can be taken away."""
    await guest.stop_pings()
    await kill_device(guest)
    await asyncio.sleep(1)
    return Came(Outcome.SURVIVED, f"driver gone in {await guest.remove_driver():.1f} s")


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
        "device-late": Play(
            "X-58", "an answer that comes after QEMU gave up costs the device, not guest or driver",
            frozenset({Outcome.SURVIVED}), device_late,
        ),
        "device-killed": Play(
            "X-58", "a device that dies takes neither guest nor driver with it",
            frozenset({Outcome.SURVIVED}), device_killed,
        ),
        "device-restarted": Play(
            "X-58", "a device that died is replaced by a new process in the same guest", BACK,
            device_restarted,
        ),
        "failing-allocations": Play(
            "X-57", "an allocation that fails in the driver costs a call or a packet, no page",
            frozenset({Outcome.SURVIVED, Outcome.DETECTED}), failing_allocations,
        ),
    }
)  # fmt: skip

#: How long QEMU waits in those where it is not :data:`PATIENT_MS`.
MSG_TIMEOUTS_MS: Mapping[str, int] = MappingProxyType({"device-late": DEFAULT_MSG_TIMEOUT_MS})


async def play_process(guest: FaultGuest, name: str) -> FaultResult:
    """Plays ``name``, one of :data:`PLAYS`, in a fresh guest."""
    play = PLAYS[name]
    began = time.monotonic()
    try:
        came = await play.act(guest)
    except (VmError, RigError, LaboratoryError) as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        came = Came(Outcome.BROKEN if isinstance(error, GuestError) else Outcome.STUCK, detail)
        if came.outcome is Outcome.STUCK:
            detail += f"; QEMU: {guest.rig.guest.qemu_said()[-3:]}"
            with contextlib.suppress(VmError):
                detail += f"; {await _kernel_said(guest, 'dmabed')}"
            came = came._replace(detail=detail)
    ms = (time.monotonic() - began) * 1e3 if came.recovered_ms is None else came.recovered_ms
    came = _judged(guest, came, ms)
    return FaultResult(play.number, name, RUNG, came.outcome, play.expect, ms, 1, came.detail)


def _judged(guest: FaultGuest, came: Came, ms: float) -> Came:
    """What the guest's kernel says of it, and the ledger, if it outlived the play."""
    warnings = drivers_fault(guest.rig.guest.console.splats)
    if warnings:
        return Came(Outcome.BROKEN, f"{warnings}; {came.detail}")
    if not guest.rig.devices.alive:
        return came
    if came.outcome is Outcome.RECOVERED:
        guest.rig.tell(Took("recovery", round(ms * 1e6)))
    blamed = guest.blames()
    return Came(Outcome.BLAMED, f"{blamed}; {came.detail}") if blamed else came
