# SPDX-License-Identifier: MIT
"""The receive strategies have the same names wherever they are listed."""

import re
from pathlib import Path

from pool.registry import STRATEGIES
from testbed.count.results import MODES
from testbed.scenario import RX_MODES

ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "driver" / "linux"


def names_in_driver() -> list[str]:
    """In the order of the driver's table."""
    table = re.search(
        r"dmabed_rx_modes\[\] = \{(.*?)\}", (DRIVER / "dmabed_rx_modes.c").read_text(), re.S
    )
    assert table
    sources = "".join(path.read_text() for path in sorted(DRIVER.glob("dmabed_rx_*.c")))
    found = dict(re.findall(r'struct dmabed_rx_ops (\w+) = \{\s*\.name\s*= "(\w+)"', sources))
    return [found[ops] for ops in re.findall(r"&(\w+)", table[1])]


def test_list_of_strategies_is_not_the_drivers():
    assert list(RX_MODES) == names_in_driver()
    assert MODES == RX_MODES


def test_driver_has_a_strategy_that_the_twin_lacks():
    assert set(RX_MODES) <= set(STRATEGIES)


def test_page_on_strategies_lists_others_or_shows_the_switch_with_others():
    text = (ROOT / "docs" / "rx-modes.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| `dmabed_rx", text, re.M) == list(RX_MODES)
    shown = re.search(r"^    (page_pool map_per_packet .*)$", text, re.M)
    assert shown
    assert shown[1].replace("[", "").replace("]", "").split() == list(RX_MODES)
