# SPDX-License-Identifier: MIT
"""O-19: pages that are mapped twice for one device."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.shared import frames_of
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class AliasRule(Rule):
    """A page at two IOVAs stays within reach when one of them is unmapped.

    That is legal (two fragments of one page may be sent at once), so it is counted, in ``aliases``;
    under an exclusive policy it is a violation. Mappings of more than 2 MiB are not looked at.
    """

    number = "O-19"
    title = "no page is mapped at two IOVAs of a device at once"
    speaks = "at the map (exclusive policy); otherwise it counts"
    needs = frozenset({Signal.MAP})

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self.aliases = 0
        self._places: dict[int, list[int]] = {}

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """Looks for the page among those that are mapped."""
        for page, frame in frames_of(mapping):
            places = self._places.setdefault(frame, [])
            places.append(page)
            if len(places) > 1:
                self.aliases += 1
                if self.state.policy.exclusive:
                    other = places[-2] << PAGE_SHIFT
                    cause = f"this page of the guest is mapped at IOVA {other:#x} too"
                    self.report(now_ns, cause, page << PAGE_SHIFT, 1 << PAGE_SHIFT, mapping)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """Forgets them."""
        for mapping in mappings:
            for page, frame in frames_of(mapping):
                places = self._places.get(frame, [])
                if page in places:
                    places.remove(page)
                if not places:
                    self._places.pop(frame, None)
