# SPDX-License-Identifier: MIT
"""X-1 to X-11: DMA where the device has no business.

A device uses addresses that are stale, reused, read-only, foreign, wild, or all right at the wrong
time. Shows that the IOMMU refuses them, that nothing of the driver's suffers, and that the ledger
does not take the device's misdeeds for the driver's.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(*range(1, 12))


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["stale-access", "reused-address", "after-stop"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
