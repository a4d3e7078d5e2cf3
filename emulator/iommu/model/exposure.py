# SPDX-License-Identifier: MIT
"""How much a device still reached after its owner took it back, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096
_NS_PER_US = 1000


@dataclass(slots=True)
class Exposure:
    """Adds up stale mappings that have ended.

    ``byte_ns`` is bytes times ns, exact; ``longest_ns`` the longest any was stale.
    """

    mappings: int = 0
    byte_ns: int = 0
    longest_ns: int = 0

    def add(
        self,
        pages: NDArray[np.int64],
        since_ns: NDArray[np.int64],
        until_ns: NDArray[np.int64] | int,
    ) -> None:
        """Mappings of ``pages`` each (shape (n,)) were stale from ``since_ns`` to ``until_ns``."""
        if not len(pages):
            return
        stale = until_ns - since_ns
        self.mappings += len(pages)
        self.byte_ns += int((pages * stale).sum()) * PAGE_BYTES
        self.longest_ns = max(self.longest_ns, int(stale.max()))

    @property
    def byte_us(self) -> float:
        """Bytes times microseconds: the exposure of reports."""
        return self.byte_ns / _NS_PER_US
