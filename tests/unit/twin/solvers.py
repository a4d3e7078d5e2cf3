# SPDX-License-Identifier: MIT
"""Stand-ins for the worker's function: they can be sent to another process by name."""

import os
import time
from pathlib import Path

from tests.unit.twin.results import result


def quick(tree, _model):
    """A result that depends on the seed; strategy mempool does not apply, seed 13 fails."""
    if tree["strategy"] == "mempool":
        return {"not_applicable": "mempool needs a window"}
    if tree["seed"] == 13:
        raise ArithmeticError("seed 13")
    found = result(tree["strategy"], tree["preset"], 100.0 + tree["seed"] / 7)
    return {"result": found.to_json()}


def deadly(tree, model):
    """The same, but seed 5 ends its process, as the kernel does when memory is short."""
    if tree["seed"] == 5:
        os._exit(9)
    return quick(tree, model)


def slow(tree, model):
    """The same, slow enough to be killed in the middle; leaves a line in the file of ``about``."""
    with Path(tree["about"]).open("a") as log:
        log.write(f"{tree['seed']}\n")
    time.sleep(0.05)
    return quick(tree, model)
