# SPDX-License-Identifier: MIT
"""The frontier: which points are on it, and that the figure shows them all."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from testbed.comparison import PUBLISHED_PRESETS
from testbed.report.style import figure_style
from testbed.report.twin.frontier import Spot, frontier_figure, frontier_title, pareto
from testbed.report.twin.looks import CATEGORY_COLOUR, PRESET_LOOK
from testbed.twin.host import CATEGORIES
from testbed.twin.scenario import PRESET_NAMES, STRATEGY_NAMES, load_twin
from tests.unit.twin.results import point

numbers = st.floats(0, 1e7, allow_nan=False)
spots = st.builds(Spot, st.just("s"), st.just("p"), numbers, numbers, st.booleans())


def beats(one, other):
    better = (one.cycles, one.exposure) != (other.cycles, other.exposure)
    return better and one.cycles <= other.cycles and one.exposure <= other.exposure


@given(st.lists(spots, max_size=30))
def test_nothing_beats_the_front_and_the_front_beats_or_equals_the_rest(cloud):
    front = pareto(cloud)
    choices = [spot for spot in cloud if not spot.broken]
    for spot in front:
        assert not any(beats(other, spot) for other in choices)
    for spot in choices:
        same = [(f.cycles, f.exposure) for f in front]
        assert (spot.cycles, spot.exposure) in same or any(beats(f, spot) for f in front)
    assert not any(spot.broken for spot in front)


def test_the_title_names_both_ends_of_the_front():
    cloud = [
        point("page_pool", "passthrough", 80, 5e6),
        point("map_per_packet", "vtd-strict", 7000, 0),
        point("mempool", "vtd-strict", 9000, 10),
    ]
    title = frontier_title(cloud)
    assert "80 cycles a packet (page_pool, passthrough)" in title
    assert "no exposure at 7000 (map_per_packet, vtd-strict)" in title


def cloud_of_all():
    """Every strategy under every preset, several of them on one spot."""
    found = []
    pairs = itertools.product(enumerate(PRESET_NAMES), enumerate(STRATEGY_NAMES))
    for (column, preset), (row, strategy) in pairs:
        cycles = 75 + 40 * (row // 3) + 900 * column * (row % 3 == 2)
        exposure = 0.0 if row % 3 == 2 and column > 1 else 873.0 * 10 ** (4 * (column < 2))
        found.append(point(strategy, preset, cycles, exposure))
    return found


@pytest.fixture(scope="module")
def figure():
    with figure_style():
        made = frontier_figure(load_twin("line"), cloud_of_all())
        FigureCanvasAgg(made).draw()
        yield made


def test_no_exposure_has_a_place_of_its_own_above_the_edge(figure):
    axes = figure.axes[0]
    foot = axes.transAxes.inverted().transform(axes.transData.transform((100, 0.0)))[1]
    ten = axes.transAxes.inverted().transform(axes.transData.transform((100, 10.0)))[1]
    assert 0.01 < foot < ten - 0.02
    assert "0" in [tick.get_text() for tick in axes.get_yticklabels()]


def test_labels_cover_neither_each_other_nor_the_edge(figure):
    axes = figure.axes[0]
    room = axes.get_window_extent()
    names = [text for text in axes.texts if set(text.get_text().split("\n")) <= set(STRATEGY_NAMES)]
    boxes = [text.get_window_extent() for text in names]
    assert len(names) >= 10
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert room.x0 <= box.x0 and box.x1 <= room.x1
        assert room.y0 <= box.y0 and box.y1 <= room.y1


def test_every_strategy_is_named_somewhere(figure):
    named = {name for text in figure.axes[0].texts for name in text.get_text().split("\n")}
    assert named >= set(STRATEGY_NAMES)


def test_every_preset_and_every_category_has_a_look_of_its_own():
    assert set(PRESET_LOOK) == set(PUBLISHED_PRESETS)
    assert len({colour for colour, _ in PRESET_LOOK.values()}) == len(PRESET_LOOK)
    assert len({marker for _, marker in PRESET_LOOK.values()}) == len(PRESET_LOOK)
    assert set(CATEGORY_COLOUR) == set(CATEGORIES)


def test_a_point_that_broke_a_rule_is_hollow():
    whole = [point("page_pool", "vtd-strict", 80, 10)]
    broken = replace(whole[0], result=replace(whole[0].result, violations={"O-2": 3}))
    with figure_style():
        for each, filled in ((whole[0], True), (broken, False)):
            axes = frontier_figure(load_twin("line"), [each]).axes[0]
            faces = [c.get_facecolor() for c in axes.collections if len(c.get_offsets())]
            assert [len(face) > 0 for face in faces] == [filled]
