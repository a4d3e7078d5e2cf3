# SPDX-License-Identifier: MIT
"""O-15: buffers are mapped the way they are used."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal
from emulator.ports import RingKind

_SHIFT = np.array(PAGE_SHIFT, np.uint64)


class DirectionRule(Rule):
    """What is posted for receive may be written, what is posted for transmit may be read.

    And the device does not read what it was given to write: few IOMMUs would refuse it.
    """

    number = "O-15"
    title = "buffers are mapped and used in the direction they were posted for"
    speaks = "at the posting (driver); at a read of a receive buffer (device)"
    needs = frozenset({Signal.MAP, Signal.RING})
    helps = MappingProxyType({})

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """A page that is not mapped at all is O-1's."""
        live, write = self.state.live, kind is RingKind.RX_DESC
        if live.big or live.explains(iovas, lengths, write, None):
            return
        verb = "written" if write else "read"
        for page in self.state.pages_of(iovas, lengths):
            mapping = live.owners.get(page)
            if mapping is not None and not (mapping.writable if write else mapping.readable):
                cause = (
                    f"posted on {kind.value} of queue {queue} in a page that may not be {verb}: "
                    "mapped in the wrong direction (driver bug)"
                )
                self.report(now_ns, cause, page << PAGE_SHIFT, 1 << PAGE_SHIFT)

    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        all_ok: bool,
        targets: NDArray[np.int64] | None,
    ) -> None:
        """A read that meets a posted receive buffer and no posted transmit buffer or ring."""
        if write or self.state.by_order:
            return
        if not self.state.owns_any(iovas, lengths, RingKind.RX_DESC):
            return
        for page in self.state.owned_among((iovas >> _SHIFT).tolist(), RingKind.RX_DESC):
            if not self._readable_for(page):
                cause = "the device read a receive buffer that it was given to write (device bug)"
                self.report(now_ns, cause, page << PAGE_SHIFT, 1 << PAGE_SHIFT)

    def _readable_for(self, page: int) -> bool:
        sent = self.state.owned_among([page], RingKind.TX_DESC)
        return bool(sent) or page in self.state.ring_pages
