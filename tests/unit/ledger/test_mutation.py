# SPDX-License-Identifier: MIT
"""Every rule is needed: without it, or turned round, the tests of the rules fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_rule_can_be_removed_inverted_or_muted_and_no_test_notices():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.rules"],
        cwd=ROOT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " mutants of 20 rules, 0 survived" in done.stdout
    assert all(f"O-{n} " in done.stdout for n in range(1, 21))
