# SPDX-License-Identifier: MIT
"""O-11: DMA only while the device is allowed to."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.ledger.policy import Mark
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal


class GateRule(Rule):
    """No access succeeds while bus mastering is off, the device is not in D0 or is in reset.

    Nor while none of its rings runs, if it is a device that has rings: then either it went on after
    it had said that it stopped, or it was never told to begin. And a driver that goes leaves the
    device without bus mastering.
    """

    number = "O-11"
    title = "no successful access while the device may not do DMA"
    needs = frozenset({Signal.DMA, Signal.CFG})
    helps = MappingProxyType(
        {
            Signal.RING: "accesses while no ring runs",
            Signal.MARK: "bus mastering left on by a driver that is gone",
        }
    )
    speaks = "at the access, once a batch, naming its first; at the mark driver_removed"

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
        """Any success that the device had no leave for is one violation for the batch."""
        state = self.state
        if state.gate_open and (state.rings or Signal.RING not in state.signals or state.by_order):
            return
        if not ok.any():
            return
        why = state.gate_why if not state.gate_open else "no ring of the device runs"
        first = int(np.flatnonzero(ok)[0])
        verb = "write" if write else "read"
        count = int(np.count_nonzero(ok))
        cause = f"{count} {verb}(s) succeeded although DMA was forbidden: {why}"
        self.report(now_ns, cause, int(iovas[first]), int(lengths[first]))

    def marked(self, now_ns: int, mark: Mark) -> None:
        """Once the driver is gone, nobody stops a device that may still do DMA."""
        if mark is Mark.DRIVER_REMOVED and self.state.gate_open:
            live = self.state.live.count
            cause = f"the driver is gone and left bus mastering on, with {live} mapping(s) alive"
            self.report(now_ns, cause, 0, 0)
