# SPDX-License-Identifier: MIT
"""X-13 to X-15: a device that does not stop, does not reset, or forgets its configuration.

Shows that stopping and resetting are bounded in time, that memory is given back only when the
device is kept away from it, and that after a reset everything is set anew.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(13, 14, 15)


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["early-stop-ack"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


if __name__ == "__main__":
    script(__doc__, NAMES)
