# SPDX-License-Identifier: MIT
"""The driver with marks for the counting plugin: the same sources, another Kbuild."""

from __future__ import annotations

import shutil
from pathlib import Path

from testbed.rig import DRIVER_SOURCE

_MARKS = "DMABED_COUNT := y\n"
_PLANTED = "DMABED_COUNT_PLANTED := y\n"


def counting_driver(folder: Path, planted: bool = False) -> Path:
    """Copies the driver's sources to ``folder``, set to be built with marks; returns it.

    planted: with one atomic operation more per packet, to see that it is counted.
    """
    target = folder / ("driver-planted" if planted else "driver-counting")
    if not target.exists():
        shutil.copytree(DRIVER_SOURCE, target)
        kbuild = target / "Kbuild"
        kbuild.write_text(_MARKS + (_PLANTED if planted else "") + kbuild.read_text())
    return target
