# SPDX-License-Identifier: MIT
"""Finished points in a file: nothing lost, nothing twice, whatever moment the writer was killed."""

from dataclasses import replace

import pytest

from testbed.sweep import point as points
from testbed.sweep.errors import StoreError
from testbed.sweep.point import Point, key_of, model_digest, solve
from testbed.sweep.store import PointStore
from testbed.twin.scenario import Traffic
from tests.unit.twin.results import point, scenario


def some(count):
    return [
        replace(point(cycles=100.0 + seed / 3), scenario=replace(scenario(), seed=seed))
        for seed in range(count)
    ]


def write(path, found):
    with PointStore(path) as store:
        for each in found:
            store.add(each)


def read(path):
    with PointStore(path) as store:
        return list(store.points.values())


def test_points_come_back_to_the_bit(tmp_path):
    found = [*some(5), Point(scenario("mempool"), not_applicable="no window")]
    write(tmp_path / "p.jsonl", found)
    assert read(tmp_path / "p.jsonl") == found


@pytest.mark.parametrize("cut", [1, 17, 400])
def test_a_torn_last_line_is_cut_off_and_the_file_goes_on(tmp_path, cut):
    path = tmp_path / "p.jsonl"
    found = some(3)
    write(path, found)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path) == found[:2]
    write(path, found)
    assert read(path) == found
    assert path.read_bytes().count(b"\n") == 3


def test_a_point_that_is_there_is_not_written_again(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, some(2))
    before = path.read_bytes()
    write(path, some(2))
    assert path.read_bytes() == before


def test_a_line_that_is_no_point_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "p.jsonl"
    write(path, some(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[2])
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"p\.jsonl:2: "):
        read(path)
    assert path.read_bytes() == before


def test_two_sweeps_cannot_write_to_one_file(tmp_path):
    path = tmp_path / "p.jsonl"
    with PointStore(path), pytest.raises(StoreError, match="another sweep"), PointStore(path):
        pass
    write(path, some(1))


def test_each_line_is_synced_before_it_counts(tmp_path, monkeypatch):
    synced = []
    path = tmp_path / "p.jsonl"
    monkeypatch.setattr("os.fsync", lambda fd: synced.append(path.read_bytes().count(b"\n")))
    write(path, some(3))
    assert synced == [1, 2, 3]


def test_the_key_is_of_all_that_matters_and_of_nothing_else(tmp_path):
    base = scenario()
    assert key_of(base) == key_of(replace(base, about="other words", name="other"))
    others = [
        replace(base, seed=2),
        replace(base, packets=999),
        replace(base, preset="vtd-lazy"),
        replace(base, traffic=Traffic(frame_bytes=65)),
    ]
    assert len({key_of(each) for each in [base, *others]}) == 5


def test_another_pcap_of_the_same_name_is_another_point(tmp_path):
    pcap = tmp_path / "a.pcap"
    pcap.write_bytes(b"one")
    base = replace(scenario(), traffic=Traffic(kind="pcap", pcap=str(pcap)))
    first = key_of(base)
    pcap.write_bytes(b"two")
    assert key_of(base) != first


def test_another_model_makes_other_points(monkeypatch):
    before = key_of(scenario())
    monkeypatch.setattr(points, "model_digest", lambda: "0" * 16)
    assert key_of(scenario()) != before


def test_a_worker_with_another_model_refuses():
    with pytest.raises(points.ModelMismatchError, match="same version"):
        solve(scenario().to_json(), "0123456789abcdef")
    assert len(model_digest()) == 16
