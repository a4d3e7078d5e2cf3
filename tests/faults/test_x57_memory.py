# SPDX-License-Identifier: MIT
"""X-57: memory of the host is short while rings are filled and rebuilt.

Shows that every pool, ring and interface stays consistent: what cannot be had now is had later, a
set that cannot be built leaves the old one running, and no page is lost.
"""

import pytest

from testbed.faults.inprocess import play_no_memory
from testbed.faults.results import matrix
from tests.faults.support import MODES, assert_expected


@pytest.mark.parametrize("mode", MODES)
def test_driver_without_memory_loses_no_page_and_comes_back(mode):
    assert_expected(play_no_memory(mode))


if __name__ == "__main__":
    print(__doc__)
    print(matrix([play_no_memory(mode) for mode in MODES]))
