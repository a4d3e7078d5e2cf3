# SPDX-License-Identifier: MIT
"""O-7: what the driver mapped is gone when the driver says that it is."""

from __future__ import annotations

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.live import BIG_PAGES
from emulator.ledger.policy import Mark
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class LiveCountRule(Rule):
    """Live mappings are back to the baseline at ``released`` and ``driver_removed``.

    Under a lazy policy leftovers are exposure (see :mod:`emulator.ledger.stale`), not a violation.
    After removal nothing is mapped for the device, but for mappings of more than 2 MiB: those are
    the platform's (RAM as a whole, when the guest turns its IOMMU off).
    """

    number = "O-7"
    title = "live mappings return to the baseline; none is made once the driver is gone"
    needs = frozenset({Signal.MAP, Signal.MARK})
    speaks = "at the marks released and driver_removed; at a map after driver_removed"

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._told: set[int] = set()

    def marked(self, now_ns: int, mark: Mark) -> None:
        """Reports each leftover mapping once."""
        if mark is Mark.DRIVER_BOUND:
            self._told.clear()
        if mark not in (Mark.RELEASED, Mark.DRIVER_REMOVED) or self.state.policy.lazy:
            return
        known = self.state.baseline | self._told
        for mapping in self.state.live.mappings():
            if mapping.generation not in known:
                self._told.add(mapping.generation)
                cause = f"still mapped at '{mark.value}': the driver never unmapped it"
                self.report(now_ns, cause, mapping.iova, mapping.size, mapping)

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """A device without a driver needs no mapping."""
        removed_ns = self.state.driver_removed_ns
        if removed_ns is None or mapping.size >> PAGE_SHIFT > BIG_PAGES:
            return
        gate = "open" if self.state.gate_open else "closed"
        cause = f"mapped {now_ns - removed_ns} ns after the driver was removed (DMA gate {gate})"
        self.report(now_ns, cause, mapping.iova, mapping.size, mapping)
