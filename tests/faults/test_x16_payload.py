# SPDX-License-Identifier: MIT
"""X-16 to X-20, X-48: frames too long, too short, damaged, late, or unread.

Shows what only a checksum above the driver can find, and what is refused at the page's edge.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(16, 17, 18, 19, 20, 48)


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["late-write", "overlong-write"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
