# SPDX-License-Identifier: MIT
import re
from pathlib import Path

import pytest

from emulator.iommu.latency import Delay, LatencyError, LatencyKnob, LatencyModel, Shape
from emulator.iommu.preset import PRESETS, PresetError, load_preset, parse_preset, preset_names

ROOT = Path(__file__).parents[3]
SHAPES = [shape for shape in Shape if shape is not Shape.CONSTANT]


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_delays_repeat_for_a_seed_stay_in_bounds_and_have_the_mean(shape):
    delay = Delay(1000, 10, shape, 200, 0 if shape is Shape.UNIFORM else 100_000)
    model = LatencyModel("x", unmap_delay=delay, seed=7)
    drawn = [model.unmap_delay_ns(3) for _ in range(20_000)]
    again = LatencyModel("x", unmap_delay=delay, seed=7)
    assert drawn[:50] == [again.unmap_delay_ns(3) for _ in range(50)]
    other = LatencyModel("x", unmap_delay=delay, seed=8)
    assert drawn[:50] != [other.unmap_delay_ns(3) for _ in range(50)]
    assert min(drawn) >= 30 and max(drawn) <= delay.worst_ns(3) <= model.worst_case_ns
    assert abs(sum(drawn) / len(drawn) - 1030) < 40
    assert model.map_delay_ns(3) == 0


def test_pages_are_paid_for_up_to_the_bound():
    model = LatencyModel(map_delay=Delay(5, 100), max_pages=4)
    assert [model.map_delay_ns(n) for n in (0, 1, 4, 1 << 52)] == [5, 105, 405, 405]
    assert model.worst_case_ns == 405


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean_ns": -1},
        {"per_page_ns": -1},
        {"spread_ns": -1},
        {"mean_ns": 5, "shape": Shape.EXPONENTIAL},
        {"mean_ns": 5, "max_ns": 4},
        {"shape": Shape.LOGNORMAL, "max_ns": 4},
    ],
)
def test_delay_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(LatencyError):
        Delay(**wrong)


def test_model_beyond_the_clients_timeout_is_refused_and_the_old_one_stays():
    slow = LatencyModel("slow", unmap_delay=Delay(4_000_000_000))
    assert slow.required_timeout_ms() == 8000
    assert LatencyModel().required_timeout_ms() == 5000
    knob = LatencyKnob(LatencyModel())
    with pytest.raises(LatencyError, match="x-msg-timeout=8000"):
        knob.replace(slow)
    assert knob.model.name == "none"
    patient = LatencyKnob(LatencyModel(), timeout_ms=8000)
    patient.replace(slow)
    assert patient.model is slow


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_sound_and_its_rows_are_in_the_document(name):
    model = load_preset(name)
    assert model.name == name and model.worst_case_ns >= 0
    rows = (ROOT / "docs" / "costs.md").read_text()
    for row, value in re.findall(
        r'value = \d+, source = "costs\.md: ([^"]+)"|value = (\d+)(?=$)',
        (PRESETS / f"{name}.toml").read_text(),
    ):
        assert f"| {row} |" in rows and not value
    for value, row in re.findall(
        r'value = (\d+), source = "costs\.md: ([^"]+)"', (PRESETS / f"{name}.toml").read_text()
    ):
        (line,) = [line for line in rows.splitlines() if line.startswith(f"| {row} |")]
        assert line.split("|")[3].strip() == value


GOOD = 'about = "a"\n[map]\nmean_ns = { value = 5, source = "assumption: for a test" }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "colour = 1\n", "x.toml:4: unknown key 'colour'"),
        (GOOD + "\n[mop]\n", "x.toml:5: unknown key 'mop'"),
        (GOOD.replace("5", "-5"), "x.toml:3: mean_ns is -5"),
        (GOOD.replace("5", "5.5"), "x.toml:3: mean_ns is 5.5"),
        (GOOD.replace("5", "true"), "x.toml:3: mean_ns is True"),
        (GOOD.replace("assumption: for a test", ""), "x.toml:3: source of mean_ns"),
        ('about = "a"\n[map]\nmean_ns = 5\n', "x.toml:3: write mean_ns ="),
        (GOOD + 'shape = "square"\n', "x.toml:4: unknown shape 'square'; allowed: constant"),
        (GOOD + 'shape = "exponential"\n', "x.toml:4: .*max_ns is needed"),
        (GOOD + "oops\n", "x.toml:4"),
        ("[map]\n", "x.toml:1: 'about' is missing"),
        ('about = "a"\nmap = 3\n', "x.toml:2: 'map' must be a table"),
    ],
)
def test_bad_preset_is_refused_with_file_and_line(text, message):
    with pytest.raises(PresetError, match="^" + message):
        parse_preset(text, "x.toml", "x")


def test_unknown_preset_is_refused_with_the_names_there_are():
    with pytest.raises(PresetError, match="vtd-strict"):
        load_preset("../x")
