# SPDX-License-Identifier: MIT
"""The loop that keeps devices alive: their sockets, their timers, one channel for control.

A guest waits for our reply to every map, unmap and register read, so what counts is how soon this
loop looks at the socket. While there is traffic it does not sleep: it polls, and gives the
processor away between two looks. Only after a while without work does it wait in the kernel.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Protocol

#: How long the loop polls after the last work before it sleeps, in ns.
SPIN_NS = 200_000
#: Waits shorter than this are polled through: a sleep would end too late. In ns.
_SHORT_WAIT_NS = 100_000
#: How often the control channel is looked at while there is traffic, in ns.
_CONTROL_EVERY_NS = 1_000_000


class Seat(Protocol):
    """A served device."""

    def service(self, now_ns: int) -> bool:
        """Receives, answers, steps the device; True if anything was done."""
        ...

    def next_due_ns(self) -> int | None:
        """When :meth:`service` has to be called at the latest; None: when a file is ready."""
        ...

    def filenos(self) -> tuple[list[int], list[int]]:
        """Files to wait for: for reading, for writing."""
        ...


class DeviceLoop:
    """Serves ``seats`` until :meth:`stop`.

    spin_ns: see :data:`SPIN_NS`; 0 never polls.
    """

    def __init__(self, seats: Sequence[Seat], spin_ns: int = SPIN_NS) -> None:
        self._seats = list(seats)
        self._control: Callable[[], None] = lambda: None
        self._control_fd: int | None = None
        self._spin_ns = spin_ns
        self._running = True
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def control(self, take: Callable[[], None], fd: int) -> None:
        """``take`` is called between two rounds when ``fd`` may be readable; it must not block."""
        self._control, self._control_fd = take, fd

    def stop(self) -> None:
        """Makes :meth:`run` return after the present round; may be called in a signal handler."""
        self._running = False
        os.eventfd_write(self._wakeup, 1)

    def run(self) -> None:
        """Serves; returns after :meth:`stop`."""
        seats, clock = self._seats, time.monotonic_ns
        last_work = next_control = clock()
        while self._running:
            now = clock()
            worked = False
            for seat in seats:
                worked |= seat.service(now)
            if now >= next_control:
                self._control()
                next_control = now + _CONTROL_EVERY_NS
            if worked:
                last_work = now
            elif now - last_work < self._spin_ns:
                os.sched_yield()
            elif self._sleep():
                next_control = 0

    def _sleep(self) -> bool:
        """Waits for a file or a timer; True if it did, False if the next timer is too close."""
        due = [d for d in (seat.next_due_ns() for seat in self._seats) if d is not None]
        wait_ns = min(due) - time.monotonic_ns() if due else None
        if wait_ns is not None and wait_ns < _SHORT_WAIT_NS:
            return False
        readers, writers = self._files()
        timeout = None if wait_ns is None else (wait_ns - _SHORT_WAIT_NS // 2) / 1e9
        select.select(readers, writers, [], timeout)
        return True

    def _files(self) -> tuple[list[int], list[int]]:
        readers = [self._wakeup] + ([] if self._control_fd is None else [self._control_fd])
        writers: list[int] = []
        for seat in self._seats:
            mine, waiting = seat.filenos()
            readers += mine
            writers += waiting
        return readers, writers
