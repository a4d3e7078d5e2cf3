# SPDX-License-Identifier: MIT
"""The guest's trace on its way to the ledgers of its NICs, while the guest runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from emulator.ledger.join import Joined
from testbed.laboratory import PORTION
from vm.trace import GuestTracer, TraceBatch

PERIOD_S = 0.2
#: Ticks before anything is recorded, so that the clocks are known when the first event comes.
FIRST_TICKS = 5
_FIRST_S = 0.02


class Devices(Protocol):
    """Where the device side is: a :class:`DeviceProcess`, or a simulator."""

    @property
    def pid(self) -> int:
        """Of its process."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        ...

    def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Calls a method of its :class:`testbed.laboratory.Laboratory`."""
        ...


class TraceStream:
    """Asks ``tracer`` for a batch every :data:`PERIOD_S` and tells each NIC's ledger its part.

    addresses: of the NICs, by name: their PCI addresses in the guest.
    """

    def __init__(self, tracer: GuestTracer, devices: Devices, addresses: Mapping[str, str]) -> None:
        self._tracer, self._devices, self._addresses = tracer, devices, addresses
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def begin(self) -> None:
        """Records from now on.

        Raises:
            TraceError: the guest cannot.
        """
        await self._tracer.begin()
        for name in self._addresses:
            self._devices.call("trace_begins", name, self._tracer.sees_stack)
        for _ in range(FIRST_TICKS):
            await self._tell(await self._tracer.tick())
            await asyncio.sleep(_FIRST_S)
        await self._tracer.start()
        self._task = asyncio.create_task(self._run())

    async def end(self) -> dict[str, Joined]:
        """Stops recording; what was told of each NIC, now that nothing is under way.

        Raises:
            TraceError: the stream broke off; ClockError: see ``GuestView``.
        """
        assert self._task is not None
        self._over.set()
        await self._task
        await self._tell(await self._tracer.end())
        return {name: self._devices.call("trace_ended", name) for name in self._addresses}

    async def abandon(self) -> None:
        """The guest is about to be ended, or is lost: what it traced last is nobody's."""
        self._tracer.abandon()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._over.is_set():
            await self._tell(await self._tracer.tick())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PERIOD_S)

    async def _tell(self, batch: TraceBatch) -> None:
        call = self._devices.call
        for name, address in self._addresses.items():
            events, lost = batch.of(address), batch.lost
            for first in range(0, max(len(events), 1), PORTION):
                call("traced", name, events[first : first + PORTION], lost)
                lost = 0
                await asyncio.sleep(0)
            call("ticked", name, batch.tick)
            while call("join_traced", name):
                await asyncio.sleep(0)
