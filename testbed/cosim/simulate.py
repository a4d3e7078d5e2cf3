# SPDX-License-Identifier: MIT
"""``python -m testbed.cosim.simulate FOLDER NAME=VALUE...``: builds the NIC and serves it."""

from __future__ import annotations

import sys
from pathlib import Path

from emulator.rtl.simulators import FAST, Design, run, waves_wanted
from testbed.device_process import die_with_parent


def main(arguments: list[str]) -> None:
    """Runs until the simulation ends; raises if it failed."""
    die_with_parent()
    folder, *settings = arguments
    environment = dict(setting.split("=", 1) for setting in settings)
    design = Design(parameters=FAST, waves=waves_wanted())
    run("verilator", design, "testbed.cosim.bench", folder=Path(folder), env=environment).require()


if __name__ == "__main__":
    main(sys.argv[1:])
