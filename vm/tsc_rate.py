# SPDX-License-Identifier: MIT
"""The rate of the host's time stamp counter, which an emulated guest is told at boot.

Under software emulation a guest's counter is the host's. Left to itself Linux measures the rate for
some ms against an emulated timer; on a busy host that was seen to be wrong by a factor of three,
and with it every rate and time that the guest reports.
"""

from pathlib import Path

from vm.cache import provide
from vm.errors import BuildError
from vm.module_build import build_program, digest
from vm.toolchain import Toolchain

_SOURCE = Path(__file__).parent / "tsc" / "tsc.c"


def tsc_khz(cache: Path, toolchain: Toolchain) -> int:
    """Measures the rate in kHz, for some 50 ms.

    Raises:
        BuildError: the program that measures does not compile or run.
    """
    entry = cache / f"tsc-{digest([toolchain.cc.encode(), _SOURCE.read_bytes()])}"

    def fill(folder: Path) -> None:
        build_program(toolchain, _SOURCE, folder)

    provide(entry, fill)
    said = toolchain.run([str(entry / "tsc")])
    if said.returncode or not said.stdout.strip().isdigit():
        raise BuildError(f"{entry / 'tsc'} does not measure the counter: {said.stdout!r}")
    return int(said.stdout)
