# SPDX-License-Identifier: MIT
"""A guest put to sleep and woken, its NIC with it; both are timed for the ledger (rule O-17).

Suspend-to-idle, as notebooks do it (Documentation/admin-guide/pm/sleep-states.rst of Linux):
drivers are suspended, devices go to D3hot, processors idle until an interrupt that may wake them.
Here that is a byte on the serial console. Suspend-to-RAM (ACPI S3): the machine stops, and is woken
by a reset of all devices, of which memory alone survives; firmware finds the way back to the
kernel. That takes a guest of :meth:`vm.artifacts.Artifacts.that_wakes`.
"""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING

from emulator.ledger.facts import Took
from emulator.pci.function import CLOSED_BY_POWER
from testbed.errors import RigError
from testbed.host_wait import HostWait
from vm.waiting import Looks

if TYPE_CHECKING:
    from testbed.rig import Rig

# Where the ports of power management are (PMBASE, ACPI_CNTL of the ICH9's LPC bridge, bytes 0x40 to
# 0x47). The waking's reset forgets it and SeaBIOS does not say it again: the ports read as ones, so
# the next sleep would end at once, as if it had been woken.
_PORTS = "/sys/bus/pci/devices/0000:00:1f.0/config"
_TO_RAM = (
    f"dd if={_PORTS} of=/tmp/ports bs=1 skip=64 count=8 2>/dev/null"
    " && echo deep > /sys/power/mem_sleep && echo mem > /sys/power/state; s=$?;"
    f" dd if=/tmp/ports of={_PORTS} bs=1 seek=64 conv=notrunc 2>/dev/null; exit $s"
)
_LIMIT_S = 20.0
_POLL_S = 0.005


class Sleep(Enum):
    """A way to sleep; the value is the command for it."""

    TO_IDLE = "echo enabled > /sys/class/tty/ttyS0/power/wakeup; echo freeze > /sys/power/state"
    TO_RAM = _TO_RAM


class Asleep:
    """``async with Asleep(rig):`` the guest sleeps, no command reaches it until the end."""

    def __init__(self, rig: Rig, sleep: Sleep = Sleep.TO_IDLE) -> None:
        self._rig, self._sleep = rig, sleep
        self._command: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Asleep:
        """Returns when the NIC is in D3hot, and the machine, if it was to, has stopped.

        Raises:
            RigError: it is not, in time. CommandFailed: the guest refuses to sleep.
        """
        await self._rig.guest.beat.acquire()
        try:
            await self._fall_asleep()
        except BaseException:
            self._rig.guest.beat.release()
            raise
        return self

    async def _fall_asleep(self) -> None:
        clock = _Clock(self._rig, "suspend")
        run = self._rig.guest.run(self._sleep.value, timeout_s=None)
        self._command = asyncio.create_task(run)
        async for _ in Looks(_LIMIT_S * self._rig.patience, _POLL_S):
            if await self._sleeps():
                clock.tell()
                return
            if self._command.done():
                await self._command
                raise RigError("the guest says that it slept, but its NIC was not in D3hot")
        self._command.cancel()
        raise RigError(f"the guest is not asleep in {_LIMIT_S:g} s; see its console")

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Wakes the guest, and returns when it runs again.

        Raises:
            RigError: it sleeps on.
        """
        assert self._command is not None
        try:
            if kind is None:
                await self._wake(self._command)
            else:
                self._command.cancel()
        finally:
            self._rig.guest.beat.release()

    async def _wake(self, command: asyncio.Task[object]) -> None:
        clock = _Clock(self._rig, "resume")
        if self._sleep is Sleep.TO_RAM:
            await self._rig.guest.qmp("system_wakeup")
        else:
            self._rig.guest.write_console(b"\n")
        try:
            await asyncio.wait_for(command, _LIMIT_S * self._rig.patience)
        except TimeoutError as error:
            raise RigError(f"the guest does not wake in {_LIMIT_S:g} s") from error
        clock.tell()

    async def _sleeps(self) -> bool:
        if self._rig.devices.call("why_closed", "nic") != CLOSED_BY_POWER:
            return False
        if self._sleep is Sleep.TO_IDLE:
            return True
        status: dict[str, str] = await self._rig.guest.qmp("query-status")
        return status["status"] == "suspended"


class _Clock:
    """Of the host, for a guest's own stands still; less what the host kept the two waiting."""

    def __init__(self, rig: Rig, what: str) -> None:
        self._rig, self._what = rig, what
        self._waited = HostWait((rig.guest.pid, rig.devices.pid))
        self._begin_ns = time.monotonic_ns()

    def tell(self) -> None:
        took_ns = time.monotonic_ns() - self._begin_ns - self._waited.ns
        self._rig.tell(Took(self._what, max(took_ns, 0)))
