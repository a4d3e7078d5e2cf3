# SPDX-License-Identifier: MIT
"""What a misbehaving device knows of itself, and tells the ledger in the driver's stead."""

from emulator.faults.watch import RingWatch
from emulator.ports import RingKind


class Told:
    """An observer that keeps what it is told of ARM."""

    def __init__(self):
        self.done = []

    def ring_started(self, *_):
        pass

    def armed(self, now_ns, queue, seen, done, sizes):
        self.done.append(done)


def test_driver_is_blamed_for_a_completion_that_came_before_its_time():
    told = Told()
    watch = RingWatch(told)
    watch.early[1] = 0x1_0003  # counts wrap at 2^16
    for done in (7 << 16 | 2, 7 << 16 | 0xFFFF, 7 << 16 | 3, 7 << 16 | 9):
        watch.armed(0, 1, 0, done, (64, 64))
    assert told.done == [7 << 16 | 3, 7 << 16 | 3, 7 << 16 | 3, 7 << 16 | 9]
    watch.armed(0, 0, 0, 2, (64, 64))
    watch.ring_started(0, 1, RingKind.RX_CQ, 0, 64)
    watch.armed(0, 1, 0, 2, (64, 64))
    assert told.done[4:] == [2, 2]
