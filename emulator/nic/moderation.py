# SPDX-License-Identifier: MIT
"""When a queue pair interrupts: ARM, the moderation timer and the frame bound.

The pair is armed by ARM and disarmed by its interrupt. ARM carries what the driver has seen, so a
completion between the driver's last poll and its ARM interrupts at once: none is lost.
"""

from __future__ import annotations

from collections.abc import Callable

NS_PER_US = 1000


class Moderation:
    """The interrupt of one pair; ``fire()`` raises its vector.

    usecs, frames: as in register MODERATION.
    """

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._armed = False
        self.usecs = self.frames = self._unannounced = self._first_ns = 0

    def reset(self) -> None:
        """Disarmed, no moderation."""
        self.usecs = self.frames = 0
        self._armed = False
        self.forget()

    def configure(self, usecs: int, frames: int) -> None:
        """Takes effect for a wait that is under way, too: at the next :meth:`poll`."""
        self.usecs, self.frames = usecs, frames

    def forget(self) -> None:
        """There is nothing left to announce."""
        self._unannounced = 0
        self._first_ns = 0

    def arm(self, all_seen: bool) -> None:
        """The driver asks for an interrupt; ``all_seen``: it knows every completion so far."""
        self._armed = True
        self.forget()
        if not all_seen:
            self._raise()

    @property
    def waits(self) -> bool:
        """The driver waits for an interrupt, and there is nothing to announce."""
        return self._armed and not self._unannounced

    def completed(self, count: int, now_ns: int) -> None:
        """``count`` completions were written. While disarmed nobody waits: ARM will tell."""
        if not self._armed or not count:
            return
        if not self._unannounced:
            self._first_ns = now_ns
        self._unannounced += count

    def poll(self, now_ns: int) -> None:
        """Interrupts if that is due."""
        deadline = self.deadline_ns()
        if deadline is not None and (now_ns >= deadline or self._bound_reached()):
            self._raise()

    def deadline_ns(self) -> int | None:
        """When the wait under way ends; None if there is none."""
        if not self._armed or not self._unannounced:
            return None
        return self._first_ns + self.usecs * NS_PER_US

    def _bound_reached(self) -> bool:
        return 0 < self.frames <= self._unannounced

    def _raise(self) -> None:
        self._armed = False
        self.forget()
        self._fire()
