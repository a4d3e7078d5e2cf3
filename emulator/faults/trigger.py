# SPDX-License-Identifier: MIT
"""When a fault strikes: which opportunities it takes, how often, and for how long."""

from __future__ import annotations

import random

from emulator.faults.plan import FaultSpec

NS_PER_US = 1000


class Trigger:
    """Decides about each opportunity of ``spec``, armed at ``armed_ns``; repeats for a seed.

    seen: opportunities so far; taken: those that were taken.
    """

    def __init__(self, spec: FaultSpec, seed: int, armed_ns: int) -> None:
        self._spec = spec
        self._random = random.Random(seed)
        self._from_ns = armed_ns + spec.after_us * NS_PER_US
        self._until_ns: int | None = None
        self.seen = self.taken = 0
        self.over = False

    def fits(self, queue: int | None = None, vector: int | None = None) -> bool:
        """Whether the place is within the scope; None: the place has no such number."""
        spec = self._spec
        return (spec.queue is None or queue is None or spec.queue == queue) and (
            spec.vector is None or vector is None or spec.vector == vector
        )

    def strikes(self, now_ns: int) -> bool:
        """One opportunity, now: whether it is taken."""
        if self.over or now_ns < self._from_ns:
            return False
        self.seen += 1
        if not self._chosen() or self.exhausted:
            return False
        self.taken += 1
        return True

    @property
    def exhausted(self) -> bool:
        """Taken as often as allowed."""
        return 0 < self._spec.times <= self.taken

    def _chosen(self) -> bool:
        spec = self._spec
        if spec.nth is not None:
            return self.seen >= spec.nth
        if spec.every is not None:
            return self.seen % spec.every == 0
        return spec.probability is None or self._random.random() < spec.probability

    # ------------------------------------------------------------------ states
    def begins(self, now_ns: int) -> bool:
        """For a fault that is a state: True at the opportunity at which it sets in."""
        if self._until_ns is not None or not self.strikes(now_ns):
            return False
        lasting = self._spec.lasting_us * NS_PER_US
        self._until_ns = now_ns + lasting if lasting else 1 << 63
        return True

    def lasts(self, now_ns: int) -> bool:
        """Whether the state that has set in still lasts."""
        return self._until_ns is not None and now_ns < self._until_ns and not self.over

    def end_ns(self, now_ns: int) -> int | None:
        """When the state that lasts now ends by itself; None: there is none, or it does not."""
        until = self._until_ns
        return until if until is not None and until < 1 << 63 and self.lasts(now_ns) else None

    def was_reset(self) -> None:
        """The device was reset."""
        if self._spec.until_reset and self.taken:
            self.over = True
