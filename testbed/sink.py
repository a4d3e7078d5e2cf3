# SPDX-License-Identifier: MIT
"""The guest's sink of test frames (driver/linux/sink): what it is told, and what it has counted."""

from __future__ import annotations

import re

from testbed.measured import Reception, key_values
from vm.guest import Guest

FILE = "/proc/dmabed_sink"
_PARAMETERS = "/sys/module/dmabed_sink/parameters"
_DAMAGED = re.compile(r"^bad_(?:magic|payload) (\d+)$", re.M)
_LATE = re.compile(r"^late_(frames|changed) (\d+)$", re.M)
_ERRORS = ("bad_magic", "bad_payload", "late_start", "gaps", "reordered", "duplicates")


class Sink:
    """Of one guest, for all its interfaces; its module is loaded by then.

    All methods raise CommandFailed if it is not.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def verify(self, on: bool) -> None:
        """Whether each byte is checked from now on, or frames are only counted."""
        await self._set("verify", on)

    async def echo(self, on: bool) -> None:
        """Whether each frame is sent back from now on."""
        await self._set("echo", on)

    async def hold(self, frames: int) -> None:
        """The first ``frames`` frames from now on are kept, as a slow socket would; 0: none are."""
        await self._set("hold", frames)

    async def release(self) -> None:
        """What was kept is let go, each frame after one more look at it (:meth:`late`)."""
        await self._order("release")

    async def reset(self) -> None:
        """Forgets all counts and sequence numbers."""
        await self._order("reset")

    async def send(
        self, interface: str, frames: int, size: int, flow: int = 1, fragmented: bool = False
    ) -> None:
        """Sends test frames of ``size`` bytes, without FCS; returns when all are handed over."""
        pieces = " frags" if fragmented else ""
        await self._order(f"send {interface} {frames} {size} {flow}{pieces}")

    async def reception(self, interface: str) -> Reception:
        """What came on ``interface`` since the last reset."""
        of_it = (await self._said()).partition(f"device {interface}\n")[2].partition("device ")[0]
        values = key_values(of_it)
        return Reception(
            packets=int(values.get("packets", 0)),
            seconds=(int(values.get("last_ns", 0)) - int(values.get("first_ns", 0))) / 1e9,
            errors=sum(int(values.get(name, 0)) for name in _ERRORS),
            short=int(values.get("small", 0)),
        )

    async def damaged(self) -> int:
        """Frames found damaged since the last reset, on all interfaces."""
        return sum(map(int, _DAMAGED.findall(await self._said())))

    async def late(self) -> tuple[int, int]:
        """Frames that were looked at again before they were let go, and those that had changed."""
        counts = dict(_LATE.findall(await self._said()))
        return int(counts["frames"]), int(counts["changed"])

    async def _said(self) -> str:
        return (await self._guest.run(f"cat {FILE}")).stdout

    async def _order(self, order: str) -> None:
        await self._guest.run(f"echo {order} > {FILE}")

    async def _set(self, parameter: str, value: int) -> None:
        await self._guest.run(f"echo {int(value)} > {_PARAMETERS}/{parameter}")
