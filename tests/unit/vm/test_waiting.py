# SPDX-License-Identifier: MIT
"""What looks at something until a deadline looks often enough, and not for ever."""

import asyncio
import time

from vm.waiting import Looks


def turns(timeout_s: float, every_s: float, late_s: float = 0.0) -> list[float]:
    """When each turn came, s after the start; each look takes ``late_s`` s of the host's time."""

    async def scene() -> list[float]:
        begin, seen = time.monotonic(), []
        async for _ in Looks(timeout_s, every_s):
            seen.append(time.monotonic() - begin)
            time.sleep(late_s)
        return seen

    return asyncio.run(asyncio.wait_for(scene(), 10))


def test_nobody_looks_if_there_is_no_time():
    assert len(turns(0, 1)) == 1


def test_looking_ends_before_the_time_is_over():
    seen = turns(0.05, 0.01)
    assert len(seen) > 2
    assert seen[-2] < 0.05 <= seen[-1]


def test_first_look_waits():
    assert turns(0.02, 60)[0] < 0.02


def test_a_pause_longer_than_the_time_makes_looking_last_longer():
    assert len(turns(0.01, 60)) == 2


def test_a_host_that_is_late_keeps_one_from_looking_again():
    assert len(turns(0.01, 0.001, late_s=0.05)) == 2
