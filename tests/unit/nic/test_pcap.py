# SPDX-License-Identifier: MIT
"""Capture files in and out."""

from __future__ import annotations

import io
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.frames import FrameBatch
from emulator.nic.wire.generator import Generator, GeneratorConfig, Imix
from emulator.nic.wire.pcap import PcapError, PcapWriter, Replay, Tap, parse, read_pcap
from tests.support.nic_host import Host, Script, frame


def capture(frames: list[bytes], times_ns: list[int], nano: bool = True) -> bytes:
    chunks: list[bytes] = []
    writer = PcapWriter(chunks.append)
    for data, time_ns in zip(frames, times_ns, strict=True):
        writer.write(FrameBatch.of([data]), time_ns)
    writer.flush()
    return b"".join(chunks)


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 10**9)), max_size=20))
def test_what_was_written_is_read_back_exactly(steps: list[tuple[bytes, int]]) -> None:
    now, times = 1_700_000_000_123_456_789, []
    for _, step in steps:
        now += step
        times.append(now)
    frames = [data for data, _ in steps]
    recording = parse(capture(frames, times))
    assert list(recording.frames) == frames
    assert recording.times_ns.tolist() == [t - times[0] for t in times]


def test_microsecond_files_keep_their_times() -> None:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file)
    for k in range(3):
        writer.writepkt(frame(60), 1_700_000_000 + k * 1e-6)
    assert parse(file.getvalue()).times_ns.tolist() == [0, 1000, 2000]


@pytest.mark.parametrize("cut", [1, 10, 40, 75])
def test_damaged_file_is_refused(cut: int) -> None:
    with pytest.raises(PcapError):
        parse(capture([frame(60)], [0])[:-cut])


def test_other_link_types_and_missing_files_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    dpkt.pcap.Writer(file, linktype=101)
    with pytest.raises(PcapError, match="link type 101"):
        parse(file.getvalue())
    with pytest.raises(PcapError, match="nowhere"):
        read_pcap(tmp_path / "nowhere.pcap")


def test_paced_replay_follows_the_stamps() -> None:
    replay = Replay(parse(capture([frame(60)] * 3, [50, 60, 90])), paced=True)
    assert len(replay.receive(10, 1000)) == 1
    assert replay.next_due_ns(1000) == 1010
    assert len(replay.receive(10, 1009)) == 0
    assert len(replay.receive(10, 1040)) == 2
    assert (replay.done, replay.next_due_ns(1040)) == (True, None)


def test_pcap_in_is_pcap_out_through_the_nic() -> None:
    """A capture is replayed to a guest that sends back all it gets, and the cable is tapped."""
    source = Generator(GeneratorConfig(seed=11, sizes=Imix(), flows=3, count=1500))
    frames = list(source.receive(1500, 0))
    chunks: list[bytes] = []
    writer = PcapWriter(chunks.append, buffer=10_000)
    wire = Tap(Replay(parse(capture(frames, [0] * 1500))), writer)
    host = Host(wire)
    host.up()
    rx, tx = host.side("RX"), host.side("TX")
    rx.post(64)
    sent = 0
    while sent < 1500:
        host.run()
        got = rx.frames()
        tx.send(got)
        rx.post(len(got))
        sent += len(got)
    host.run()
    assert len(chunks) > 10, "the tap must not hold back more than its buffer"
    writer.flush()
    seen = list(parse(b"".join(chunks)).frames)
    assert sorted(seen) == sorted(frames * 2)


def test_tap_changes_nothing() -> None:
    inner = Script([frame(60)])
    tap = Tap(inner, PcapWriter(lambda _: None))
    assert tap.next_due_ns(3) == 3
    assert list(tap.receive(1, 0)) == [frame(60)]
    tap.transmit(FrameBatch.of([frame(61)]), 0)
    assert inner.sent == [frame(61)]
