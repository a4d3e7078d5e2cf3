# SPDX-License-Identifier: MIT
"""Waiting for something that only looking can tell."""

from __future__ import annotations

import asyncio
import time


class Looks:
    """One turn at once and then one every ``every_s`` s, the last when ``timeout_s`` s are over.

    ``async for _ in Looks(5, 0.1): if there(): break``, and ``else:`` for what is said when it was
    never there. However late a busy host comes to its turns, what was there in time is seen.
    """

    def __init__(self, timeout_s: float, every_s: float) -> None:
        self._every_s, self._deadline = every_s, time.monotonic() + timeout_s
        self._first, self._last = True, False

    def __aiter__(self) -> Looks:
        return self

    async def __anext__(self) -> None:
        if self._last:
            raise StopAsyncIteration
        if not self._first:
            await asyncio.sleep(min(self._every_s, max(self._deadline - time.monotonic(), 0)))
        self._first, self._last = False, time.monotonic() >= self._deadline
