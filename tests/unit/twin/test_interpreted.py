# SPDX-License-Identifier: MIT
"""The compiled twin and the one that runs as Python agree to the bit."""

import pytest

from testbed.twin.interpreted import run_interpreted
from testbed.twin.run import run_twin
from testbed.twin.thread.experiment import scenario


@pytest.mark.parametrize("preset", ["vtd-strict", "vtd-lazy", "passthrough"])
def test_compiled_twin_that_differs_from_the_interpreted(preset):
    what = scenario("page_pool", preset, consumer__kind="forward-remote", packets=3000)
    compiled, interpreted = run_twin(what).to_json(), run_interpreted(what).to_json()
    assert compiled == interpreted
