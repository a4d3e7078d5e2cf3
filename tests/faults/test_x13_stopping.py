# SPDX-License-Identifier: MIT
"""X-12 to X-15: a device that does not stop, does not reset, forgets or keeps too much.

Shows that stopping and resetting are bounded in time, that memory is given back only when the
device is kept away from it, and that after a reset everything is set anew.
"""

from emulator.faults.fault import Outcome
from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(12, 13, 14, 15)


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


@each(["early-stop-ack", "kept-descriptors"])
def test_driver_that_maps_per_packet_neither_hangs_nor_is_blamed(name):
    assert_expected(play_fault(name, "map_per_packet"))


def test_descriptors_kept_over_a_restart_lead_anywhere():
    result = play_fault("kept-descriptors", "page_pool")
    assert result.outcome is Outcome.REFUSED, result.detail
    assert result.detail.startswith("16 refused;")  # eight of each queue, and none landed


if __name__ == "__main__":
    script(__doc__, NAMES)
