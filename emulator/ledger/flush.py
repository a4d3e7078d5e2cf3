# SPDX-License-Identifier: MIT
"""How many mappings were stale at once, read off the way in which a lazy guest unmaps.

A lazy guest gives memory back first and has its mappings removed later, many in a row: by a timer,
by a full flush queue, or because the next map takes the queued unmaps along. So all mappings of
such a row had outlived their memory when the first of them was removed. That needs no word from the
guest, and no luck in when one looks, as a count at a single moment does.
"""

from __future__ import annotations

#: Longer pauses end a row: removals of one row are only their round trips to the device apart.
GAP_NS = 1_000_000


class FlushRows:
    """Rows of unmaps of one device: nothing mapped in between, no pause above ``GAP_NS``.

    most: mappings in the longest row. A busy host can cut a row in two, so it is a lower bound.
    A guest with several CPUs may add to a row while it is being removed.
    """

    def __init__(self) -> None:
        self.most = 0
        self._row = 0
        self._last_ns = 0
        self._left = 0

    def restart(self) -> None:
        """Counts from here on only."""
        self.most = self._row = 0

    def unmapped(self, now_ns: int, left: int) -> None:
        """One mapping was removed and ``left`` are alive: one less than last time, if none came."""
        if left != self._left - 1 or now_ns - self._last_ns > GAP_NS:
            self._row = 0
        self._left, self._last_ns = left, now_ns
        self._row += 1
        if self._row > self.most:
            self.most = self._row
