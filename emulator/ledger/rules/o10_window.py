# SPDX-License-Identifier: MIT
"""O-10: how long invalidations take, and that a strict IOMMU leaves no stale window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType

from emulator.iommu.mapping import Mapping
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class WindowRule(Rule):
    """Counts the time from each unmap request to its end, and judges the guest's own windows.

    latency: k -> unmaps that took less than 2^k ns and at least 2^(k-1). Under a strict policy no
    mapping outlives the guest's own unmap by more than the error of the clocks; under a lazy one
    the windows are exposure (see :mod:`emulator.ledger.stale`).
    """

    number = "O-10"
    title = "a strict IOMMU leaves no stale window; a lazy one's are measured"
    speaks = "when a mapping that outlived the guest's own unmap ends (strict policy)"
    needs = frozenset({Signal.MAP})
    helps = MappingProxyType({Signal.TRACE: "windows from the guest's own unmap"})

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self.latency: Counter[int] = Counter()
        self._asked_ns = 0

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """The clock runs."""
        self._asked_ns = now_ns

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """And stops; a client that went away asked for nothing."""
        if self.state.request is not None:
            self.latency[max(now_ns - self._asked_ns, 0).bit_length()] += 1

    def window_ended(self, mapping: Mapping, since_ns: int, until_ns: int) -> None:
        """A window that cannot be the clocks' doing is a violation under a strict policy."""
        error_ns = self.state.clock_error_ns
        window_ns = until_ns - since_ns
        if self.state.policy.lazy or window_ns <= error_ns:
            return
        cause = (
            f"the mapping outlived the guest's own unmap, at {since_ns / 1e9:.9f} s, by "
            f"{window_ns} ns (clocks agree within {error_ns} ns) under a strict IOMMU"
        )
        self.report(until_ns, cause, mapping.iova, mapping.size, mapping)
