# SPDX-License-Identifier: MIT
"""The Linux guest on the RTL: packets both ways, a ping, the ledger's verdict."""

from pathlib import Path

import pytest

from emulator.rtl.simulators import MissingSimulatorError, find

pytestmark = [pytest.mark.vm, pytest.mark.slow]


def test_frames_between_guest_and_rtl_are_lost_or_damaged(runner, artifacts, tmp_path: Path):
    from testbed.cosim.__main__ import cosimulate

    try:
        find("verilator")
    except MissingSimulatorError as missing:
        pytest.skip(str(missing))
    result = runner.run(cosimulate(tmp_path, packets=200))
    assert result.ok, result.text
