# SPDX-License-Identifier: MIT
"""O-11: DMA only while the device is allowed to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.ledger.rules.base import Rule


class GateRule(Rule):
    """No access succeeds while bus mastering is off, the device is not in D0 or is in reset."""

    number = "O-11"
    title = "no successful access while the device may not do DMA"
    sees = "DMA, CFG"
    speaks = "at the access: once a batch, naming its first access"

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
        """Any success while the gate is closed is one violation for the batch."""
        if self.state.gate_open or not ok.any():
            return
        first = int(np.flatnonzero(ok)[0])
        verb = "write" if write else "read"
        count = int(np.count_nonzero(ok))
        cause = f"{count} {verb}(s) succeeded although DMA was forbidden: {self.state.gate_why}"
        self.report(now_ns, cause, int(iovas[first]), int(lengths[first]))
