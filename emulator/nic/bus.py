# SPDX-License-Identifier: MIT
"""What the host does to a NIC: registers, clock, bus mastering, reset, cable."""

from __future__ import annotations

from typing import Protocol


class NicBus(Protocol):
    """:class:`emulator.nic.nic.Nic` as its host sees it, and what may stand in its place."""

    def mmio_read(self, offset: int, size: int) -> int:
        """See :meth:`emulator.nic.nic.Nic.mmio_read`."""
        ...

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.mmio_write`."""
        ...

    def step(self, now_ns: int) -> int | None:
        """See :meth:`emulator.nic.nic.Nic.step`."""
        ...

    def bus_master(self, on: bool, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.bus_master`."""
        ...

    def power_reset(self, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.power_reset`."""
        ...

    def link(self, up: bool, now_ns: int) -> None:
        """See :meth:`emulator.nic.nic.Nic.link`."""
        ...
