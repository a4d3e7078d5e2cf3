# SPDX-License-Identifier: MIT
"""X-39 to X-44: interrupts, doorbells, counts and links that do not do what they should.

Shows that what is lost is found by the driver's timer, and what is too much costs only time.
"""

from testbed.faults.inprocess import play_fault
from tests.faults.support import assert_expected, each, family, script

NAMES = family(*range(39, 45))


@each(NAMES)
def test_driver_neither_hangs_nor_is_blamed_by_fault(name):
    assert_expected(play_fault(name, "page_pool"))


if __name__ == "__main__":
    script(__doc__, NAMES)
