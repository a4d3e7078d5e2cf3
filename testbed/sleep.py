# SPDX-License-Identifier: MIT
"""A guest put to sleep and woken, its NIC with it; both are timed for the ledger (rule O-17).

Suspend-to-idle, as notebooks do it (Documentation/admin-guide/pm/sleep-states.rst of Linux):
drivers are suspended, devices go to D3hot, processors idle until an interrupt that may wake them.
Here that is a byte on the serial console. Deeper states are up to firmware, which is not here.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING

from emulator.ledger.facts import Took
from emulator.pci.function import CLOSED_BY_POWER
from testbed.errors import RigError
from testbed.host_wait import HostWait

if TYPE_CHECKING:
    from testbed.rig import Rig

_SLEEP = "echo enabled > /sys/class/tty/ttyS0/power/wakeup; echo freeze > /sys/power/state"
_LIMIT_S = 20.0
_POLL_S = 0.005


class Asleep:
    """``async with Asleep(rig):`` the guest sleeps, no command reaches it until the end."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._command: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Asleep:
        """Returns when the NIC is in D3hot.

        Raises:
            RigError: it is not, in time. CommandFailed: the guest refuses to sleep.
        """
        clock = _Clock(self._rig, "suspend")
        run = self._rig.guest.run(_SLEEP, timeout_s=None)
        self._command = asyncio.create_task(run)
        deadline = time.monotonic() + _LIMIT_S * self._rig.patience
        while self._rig.devices.call("why_closed", "nic") != CLOSED_BY_POWER:
            if self._command.done():
                await self._command
                raise RigError("the guest says that it slept, but its NIC was not in D3hot")
            if time.monotonic() > deadline:
                self._command.cancel()
                raise RigError(f"the guest is not asleep in {_LIMIT_S:g} s; see its console")
            await asyncio.sleep(_POLL_S)
        clock.tell()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Wakes the guest, and returns when it runs again.

        Raises:
            RigError: it sleeps on.
        """
        assert self._command is not None
        if kind is not None:
            self._command.cancel()
            return
        clock = _Clock(self._rig, "resume")
        self._rig.guest.write_console(b"\n")
        try:
            await asyncio.wait_for(self._command, _LIMIT_S * self._rig.patience)
        except TimeoutError as error:
            raise RigError(f"the guest does not wake in {_LIMIT_S:g} s") from error
        clock.tell()


class _Clock:
    """Of the host, for a guest's own stands still; less what the host kept the two waiting."""

    def __init__(self, rig: Rig, what: str) -> None:
        self._rig, self._what = rig, what
        self._waited = HostWait((rig.guest.pid, rig.devices.pid))
        self._begin_ns = time.monotonic_ns()

    def tell(self) -> None:
        took_ns = time.monotonic_ns() - self._begin_ns - self._waited.ns
        self._rig.tell(Took(self._what, max(took_ns, 0)))
