# SPDX-License-Identifier: MIT
"""X-45, X-46, X-55, X-56: a device that is gone, frozen, or silent in part.

Shows that it is noticed, let go of in bounded time, and used again when it comes back.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(45, 46, 55, 56)


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["gone", "queue-stall"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
