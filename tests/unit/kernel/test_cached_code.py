# SPDX-License-Identifier: MIT
"""Names in machine code that several processes cache and one may load."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
from numba.core.itanium_mangler import mangle_type

import emulator.kernel  # noqa: F401  (what is tested: it changes how records are named)

ROOT = Path(__file__).parent.parent.parent.parent

PROGRAM = """
import sys
import numba
import numpy as np
from numba.core.itanium_mangler import mangle_type
import emulator.kernel

for size in map(int, sys.argv[1:]):
    print(mangle_type(numba.from_dtype(np.dtype([("at", np.int64, (size,))], align=True))))
"""


def names_of(*sizes):
    """Of records with an array of each size, made in this order by a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, *map(str, sizes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(zip(sizes, done.stdout.split(), strict=True))


def test_two_processes_do_not_give_one_name_to_different_records():
    # Numba's own names are numbers in order of appearance. Then one process that loads what both
    # have cached runs the code of one strategy on the pool of another.
    assert names_of(3)[3] != names_of(7)[7]


def test_a_record_has_the_same_name_whatever_was_made_before_it():
    assert names_of(3, 5, 7) == names_of(7, 3, 5)


def test_records_that_differ_in_a_name_or_a_type_only_have_names_of_their_own():
    fields = [("at", np.int64, (3,)), ("to", np.int64, (3,)), ("at", np.float64, (3,))]
    found = {mangle_type(numba.from_dtype(np.dtype([f], align=True))) for f in fields}
    assert len(found) == 3
