# SPDX-License-Identifier: MIT
"""Which seed is meant: that of the command line, else SEED, else the one that was planned."""

from __future__ import annotations

import os

from emulator.errors import DmabedError


def chosen_seed(option: int | None, planned: int) -> int:
    """``option`` if it is one, else the environment's SEED if that is set, else ``planned``.

    Raises:
        DmabedError: it is no whole number, or not from 0 to 2^63 - 1.
    """
    seed = option if option is not None else os.environ.get("SEED", "")
    if seed == "":
        return planned
    try:
        number = int(seed)
    except ValueError:
        raise DmabedError(f"SEED={seed}: must be a whole number") from None
    if not 0 <= number < 1 << 63:
        raise DmabedError(f"seed {number}: must be from 0 to 2^63 - 1")
    return number
