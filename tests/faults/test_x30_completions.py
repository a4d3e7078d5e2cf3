# SPDX-License-Identifier: MIT
"""X-30 to X-38: completions that are torn, doubled, lost, early, or say what cannot be.

Shows that every value the device writes is bounded before it is used, and that a ring on which the
two sides disagree is left alone and started again.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(*range(30, 39))


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["early-completion", "torn-completion"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
