# SPDX-License-Identifier: MIT
"""`python -m vm setup` fills the cache; `python -m vm shell` boots a plain guest with a shell."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from emulator.errors import DmabedError
from vm.artifacts import setup
from vm.guest import Guest
from vm.invalidation import settle_invalidation
from vm.kernel_config import flavour_for
from vm.machine import ALL_IOMMUS, GuestConfig
from vm.terminal import shell_on_terminal


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _setup() -> None:
    for line in setup(_say).describe():
        _say(line)


async def _shell(config: GuestConfig) -> None:
    artifacts = setup(_say, flavour=flavour_for([config.iommu]))
    async with Guest(artifacts, config) as guest:
        await settle_invalidation(guest)
        _say("exit or Ctrl-] ends the guest")
        await shell_on_terminal(guest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vm", description=__doc__)
    parser.add_argument("action", choices=("setup", "shell"))
    parser.add_argument("--iommu", choices=ALL_IOMMUS, default="intel-strict")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.action == "setup":
            _setup()
        else:
            asyncio.run(_shell(GuestConfig(iommu=chosen.iommu)))
    except DmabedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
