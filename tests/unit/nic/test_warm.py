# SPDX-License-Identifier: MIT
"""What :mod:`emulator.warm` promises: no kernel is compiled while a guest waits."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from emulator.warm import warm_up
from emulator.kernel import LOOPS
from tests.bench.receive import ReceiveRig

def seen():
    return {k.py_func.__module__ + "." + k.py_func.__name__: len(k.signatures) for k in LOOPS}

before = seen()
warm_up()
warmed = seen()
assert sum(warmed.values()) > sum(before.values()), (before, warmed)
for paged in (False, True):
    for length in (60, 1514):
        rig = ReceiveRig(paged, length, 64)
        rig.run(2048)
        rig.check()
assert seen() == warmed, (warmed, seen())
"""


def test_nothing_is_compiled_after_the_warm_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
