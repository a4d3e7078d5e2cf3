# SPDX-License-Identifier: MIT
"""X-51 to X-53: an IOMMU that is slow to unmap, fails to, or refuses to map.

Shows that the driver waits or does without, and loses no page.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(51, 52, 53)


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(NAMES)
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
