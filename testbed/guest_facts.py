# SPDX-License-Identifier: MIT
"""What a guest is asked to find out itself, and what the ledger is told of it.

How long the driver takes to go (rule O-17), by the guest's own clock; whether frames that the stack
has had for a while are still what was received (O-6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.ledger.facts import PayloadChecked, Took
from testbed.host_wait import HostWait
from vm.errors import CommandTimeout

if TYPE_CHECKING:
    from testbed.rig import Rig

#: Prints the guest's CLOCK_MONOTONIC in ns; /proc/uptime counts in 10 ms.
_CLOCK = "grep -m1 -o 'now at [0-9]*' /proc/timer_list"
_NOW = re.compile(r"^now at (\d+)$", re.M)


async def timed(
    rig: Rig, what: str, command: str, timeout_s: float = 60.0, check: bool = True
) -> int:
    """Runs ``command`` in the guest; the ledger is told that ``what`` took so long. Returns ns.

    By the guest's clock, without what the host made guest and device wait for a processor. A device
    process that is gone took its ledger along.

    Raises:
        CommandFailed: ``check``, and its status is not 0. CommandTimeout: it was given up, and the
            ledger told.
    """
    waited = HostWait((rig.guest.pid, rig.devices.pid))
    line = f"{_CLOCK}; {command}; s=$?; {_CLOCK}; exit $s"
    try:
        said = await rig.guest.run(line, timeout_s=timeout_s, check=check)
    except CommandTimeout:
        _tell_time(rig, what, round(timeout_s * 1e9))
        raise
    times = [int(found) for found in _NOW.findall(said.stdout)]
    took_ns = max(times[-1] - times[0] - waited.ns, 0)
    _tell_time(rig, what, took_ns)
    return took_ns


def _tell_time(rig: Rig, what: str, took_ns: int) -> None:
    if rig.devices.alive:
        rig.tell(Took(what, took_ns))


def ethtool_value(option: str, label: str, interface: str) -> str:
    """Shell that prints ``label`` of an interface: ethtool says what can be, then what is."""
    return f"ethtool {option} {interface} | awk '/^{label}:/ {{ n = $2 }} END {{ print n }}'"


@dataclass(slots=True)
class Retained:
    """Frames that the guest's sink keeps from now on, as a slow socket would; ``frames`` at most.

    The sink keeps the first that come.
    """

    rig: Rig
    frames: int

    async def begin(self) -> None:
        """Keeps what comes."""
        await self.rig.sink.hold(self.frames)

    async def end(self) -> PayloadChecked:
        """Each of them is looked at again, byte by byte, and let go; the ledger is told."""
        sink = self.rig.sink
        before = await sink.late()
        await sink.hold(0)
        await sink.release()
        frames, changed = (now - then for now, then in zip(await sink.late(), before, strict=True))
        fact = PayloadChecked(frames, changed, "kept by the guest's sink")
        self.rig.tell(fact)
        return fact
