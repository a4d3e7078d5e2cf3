# SPDX-License-Identifier: MIT
"""The laboratory through its process: traffic in and out, what is exposed, cases kept apart."""

from __future__ import annotations

from pathlib import Path

import dpkt
import numpy as np
import pytest

from emulator.frames import FrameBatch
from emulator.iommu.latency import Delay, LatencyModel
from emulator.nic import registers as r
from emulator.nic.wire.testframes import check
from emulator.vfio_user.messages import REGION_ACCESS, Command, PciRegion
from testbed.errors import LaboratoryError
from testbed.laboratory import Received, Served, Traffic
from tests.integration.testbed.support import PAGE, Bench, GuestNic, until
from tests.support.vfio_user_client import map_payload, unmap_payload


# ---------------------------------------------------------------------- traffic
def test_sent_frames_arrive_intact_and_are_counted_once(bench: Bench) -> None:
    guest = bench.guest()
    ring = guest.up()
    ring.post(50)
    bench.call("window_begin", "nic")
    bench.call("send", "nic", Traffic(60, 1514, count=40, flows=3, seed=7))
    until(lambda: bench.call("sent", "nic") == (40, True), "the frames")
    counts = bench.call("window_end", "nic")
    frames = FrameBatch.of(ring.frames())
    assert len(frames) == 40 and check(frames).intact.all()
    assert (counts["rx_packets"], counts["tx_packets"]) == (40, 0)
    assert (counts["maps"], counts["unmaps"]) == (0, 0)


def test_send_is_not_done_while_the_guest_posts_no_buffers(bench: Bench) -> None:
    ring = bench.guest().up()
    ring.post(5)
    bench.call("send", "nic", Traffic(count=8))
    until(lambda: bench.call("sent", "nic")[0] >= 5, "the first frames")
    assert bench.call("sent", "nic") == (5, False)
    ring.post(3)
    until(lambda: bench.call("sent", "nic") == (8, True), "the rest")


def test_frames_of_the_guest_are_checked(bench: Bench) -> None:
    guest = bench.guest()
    ring = guest.up("TX")
    bench.call("send", "nic", Traffic(count=0))
    frames = [bytearray(f) for f in Traffic(100, 100, count=6).generator().receive(6, 0)]
    frames[1][99] ^= 1  # damaged
    del frames[3]  # lost
    ring.send([bytes(frame) for frame in frames] + [b"\xff" * 6 + bytes(54)])
    until(lambda: bench.call("received", "nic").others, "the last frame")
    seen = bench.call("received", "nic")
    assert (seen.frames, seen.corrupt, seen.others) == (5, 1, 1)
    assert seen.misordered >= 1
    assert isinstance(seen, Received)


def test_burst_is_called_done_before_the_driver_has_seen_it_and_waits_again(bench: Bench) -> None:
    guest = bench.guest()
    ring, sender = guest.up(), guest.up("TX")
    ring.post(50)
    arm = r.qp_base(0) + r.DMABED_QP_ARM
    guest.write(arm, 0)
    assert bench.call("served", "nic") == Served(0, 0, quiet=True)
    bench.call("send", "nic", Traffic(count=40))
    until(lambda: bench.call("served", "nic").received == 40, "the frames")
    assert bench.call("served", "nic") == Served(40, 0, quiet=False)  # it has interrupted
    guest.write(arm, 40)
    assert bench.call("served", "nic").quiet
    sender.send([bytes(60)] * 3)
    until(lambda: bench.call("served", "nic").transmitted == 3, "what is sent")
    assert not bench.call("served", "nic").quiet
    guest.write(arm, 3 << 16 | 40)
    assert bench.call("served", "nic") == Served(40, 3, quiet=True)
    sender.fill(1, [1000], flags=0)  # a frame of two pieces
    sender.fill(1, [500])
    sender.ring_doorbell()
    until(lambda: bench.call("served", "nic").transmitted == 4, "the frame of two pieces")
    guest.write(arm, 4 << 16 | 40)
    assert bench.call("served", "nic").quiet


def test_unplugged_source_is_told_apart_from_one_that_sent_nothing(bench: Bench) -> None:
    with pytest.raises(LaboratoryError, match="nothing is plugged in; call send or replay"):
        bench.call("sent", "nic")
    bench.call("send", "nic", Traffic(count=3))
    assert bench.call("sent", "nic") == (0, False)
    bench.call("unplug", "nic")
    with pytest.raises(LaboratoryError, match="call send first"):
        bench.call("received", "nic")


def write_pcap(path: Path, frames: list[bytes]) -> None:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for number, frame in enumerate(frames):
            writer.writepkt(frame, ts=number / 1e6)


def read_pcap(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [frame for _, frame in dpkt.pcap.Reader(file)]


def test_replayed_frames_arrive_and_both_directions_are_captured(
    bench: Bench, tmp_path: Path
) -> None:
    frames = [bytes.fromhex("ffffffffffff0200000000011234") + bytes([i]) * 60 for i in range(9)]
    write_pcap(tmp_path / "in.pcap", frames)
    guest = bench.guest()
    ring, out = guest.up(), guest.up("TX")
    ring.post(20)
    bench.call("send", "nic", Traffic(count=5))
    until(lambda: bench.call("sent", "nic") == (5, True), "the generator")
    bench.call("replay", "nic", tmp_path / "in.pcap", tmp_path / "seen.pcap")
    until(lambda: bench.call("sent", "nic") == (9, True), "the count of the replay, not of send")
    assert ring.frames()[5:] == frames
    answer = b"\x02" * 12 + b"\x12\x35" + bytes(50)
    out.send([answer])
    until(out.poll, "the guest's frame")
    bench.call("unplug", "nic")
    assert read_pcap(tmp_path / "seen.pcap") == [*frames, answer]


def test_replay_after_replay_closes_the_first_capture(bench: Bench, tmp_path: Path) -> None:
    frame = b"\xff" * 12 + b"\x12\x34" + bytes(50)
    write_pcap(tmp_path / "in.pcap", [frame])
    ring = bench.guest().up()
    ring.post(20)
    for name in ("first.pcap", "second.pcap"):
        bench.call("replay", "nic", tmp_path / "in.pcap", tmp_path / name)
        until(lambda: bench.call("sent", "nic")[1], "the frame")
    assert read_pcap(tmp_path / "first.pcap") == [frame]


def test_missing_capture_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(LaboratoryError, match=r"replay: .*none\.pcap"):
        bench.call("replay", "nic", tmp_path / "none.pcap")


def test_pulled_cable_is_seen_by_the_guest_without_any_access_of_its_own(bench: Bench) -> None:
    guest = bench.guest()
    guest.enable()
    up = r.DMABED_STATUS_LINK_UP
    assert guest.read(r.DMABED_STATUS) & up
    bench.call("link", "nic", False)
    assert not guest.read(r.DMABED_STATUS) & up
    bench.call("link", "nic", True)
    assert guest.read(r.DMABED_STATUS) & up
    assert guest.read(r.DMABED_EVENT) & r.DMABED_EVENT_LINK


# ---------------------------------------------------------------------- the IOMMU
def read_of_id(guest: GuestNic) -> int:
    access = REGION_ACCESS.pack(r.DMABED_ID, PciRegion.BAR0, 4)
    return int(guest.client.send(Command.REGION_READ, access))


def replies(guest: GuestNic, number: int) -> list[int]:
    return [guest.client.receive().msg_id for _ in range(number)]


@pytest.mark.parametrize("slow", ["map", "unmap"])
def test_latency_holds_back_the_reply_to_that_command_alone(bench: Bench, slow: str) -> None:
    guest = bench.guest()
    guest.enable()
    map_at, unmap_at = map_payload(1 << 32, PAGE), unmap_payload(1 << 32, PAGE)
    delay = Delay(mean_ns=300_000_000)
    model = LatencyModel("slow", *((delay, None) if slow == "map" else (None, delay)))
    bench.call("latency", "nic", model)
    first = guest.client.send(Command.DMA_MAP, map_at)
    second = read_of_id(guest)
    assert replies(guest, 2) == ([second, first] if slow == "map" else [first, second])
    first = guest.client.send(Command.DMA_UNMAP, unmap_at)
    second = read_of_id(guest)
    assert replies(guest, 2) == ([second, first] if slow == "unmap" else [first, second])


def test_latency_of_one_nic_is_not_that_of_another(bench: Bench) -> None:
    guest = bench.guest("other")
    bench.call("latency", "nic", LatencyModel("slow", Delay(mean_ns=300_000_000)))
    first = guest.client.send(Command.DMA_MAP, map_payload(1 << 32, PAGE))
    second = read_of_id(guest)
    assert replies(guest, 2) == [first, second]


def test_latency_that_outlasts_the_patience_of_qemu_is_refused_and_changes_nothing(
    bench: Bench,
) -> None:
    with pytest.raises(LaboratoryError, match=r"latency: .*'slow'"):
        bench.call("latency", "nic", LatencyModel("slow", Delay(mean_ns=4_900_000_000)))
    guest = bench.guest()
    first = guest.client.send(Command.DMA_MAP, map_payload(1 << 32, PAGE))
    second = read_of_id(guest)
    assert replies(guest, 2) == [first, second]


# ---------------------------------------------------------------------- the ledger
def test_clean_driver_leaves_nothing_behind(bench: Bench) -> None:
    guest = bench.guest()
    before = bench.call("totals", "nic")
    ring = guest.up()
    pages = sum(size for _, size in guest.ranges(ring)) // PAGE
    seen = bench.call("exposed", "nic")
    assert (seen.live, seen.at_release, seen.windows) == (pages, None, 0)
    ring.post(10)
    assert bench.call("exposed", "nic").posted == 10
    guest.down(ring)
    seen = bench.call("exposed", "nic")
    assert (seen.live, seen.at_release, seen.windows, seen.open) == (0, 0, 0, 0)
    assert (seen.longest_ns, seen.posted) == (0, 0)
    assert bench.call("violations", "nic") == []
    after = bench.call("totals", "nic")
    assert (after["maps"] - before["maps"], after["unmaps"] - before["unmaps"]) == (pages, pages)


def test_mappings_of_the_platform_are_not_the_drivers(bench: Bench) -> None:
    guest = bench.guest()
    guest.map(guest.alloc(3 * PAGE, PAGE), 3 * PAGE)
    ring = guest.up()
    assert bench.call("exposed", "nic").live == sum(s for _, s in guest.ranges(ring)) // PAGE
    guest.down(ring)
    assert bench.call("exposed", "nic").at_release == 0


def test_unmap_of_a_posted_buffer_is_told_in_a_sentence(bench: Bench) -> None:
    guest = bench.guest()
    ring = guest.up()
    ring.post(4)
    guest.unmap(ring.buffers, PAGE)
    (sentence,) = bench.call("violations", "nic")
    assert sentence.startswith("O-3 nic ") and f"{ring.buffers:#x}" in sentence
    assert not bench.call("verdict")["ok"]


def test_mapping_left_at_release_is_a_violation_and_counted(bench: Bench) -> None:
    guest = bench.guest()
    ring = guest.up()
    guest.map(left := guest.alloc(2 * PAGE, PAGE), 2 * PAGE)
    guest.down(ring)
    seen = bench.call("exposed", "nic")
    assert (seen.live, seen.at_release, seen.open) == (2, 2, 2)
    assert [v.split()[0] for v in bench.call("violations", "nic")] == ["O-7", "O-7"]
    assert f"{left:#x}" in bench.call("violations", "nic")[0]


def test_mapping_left_at_release_is_exposure_where_invalidation_is_lazy(lazy_bench: Bench) -> None:
    guest = lazy_bench.guest()
    ring = guest.up()
    guest.map(left := guest.alloc(PAGE, PAGE), PAGE)
    guest.down(ring)
    early = lazy_bench.call("exposed", "nic")
    assert (early.at_release, early.open, early.windows) == (1, 1, 1)
    guest.unmap(left, PAGE)
    late = lazy_bench.call("exposed", "nic")
    assert (late.live, late.open, late.windows) == (0, 0, 1)
    assert late.longest_ns >= early.longest_ns > 0
    assert lazy_bench.call("violations", "nic") == []


def test_next_case_starts_without_the_violations_of_the_last(bench: Bench) -> None:
    guest = bench.guest()
    ring = guest.up()
    ring.post(4)
    guest.unmap(ring.buffers, PAGE)
    assert len(bench.call("violations", "nic")) == 1
    bench.call("begin_case", "nic")
    assert bench.call("violations", "nic") == []
    guest.unmap(ring.buffers + PAGE, PAGE)
    (sentence,) = bench.call("violations", "nic")
    assert f"{ring.buffers + PAGE:#x}" in sentence


def test_violations_after_the_log_is_full_are_still_a_violated_case(forgetful_bench: Bench) -> None:
    bench = forgetful_bench
    guest = bench.guest()
    ring = guest.up()
    ring.post(4)
    for _ in range(5):
        guest.unmap(ring.buffers, PAGE)
        guest.map(ring.buffers, PAGE)
    assert bench.call("violations", "nic")[2:] == ["and 3 more violations, counted only"]
    bench.call("begin_case", "nic")
    assert bench.call("violations", "nic") == []
    guest.unmap(ring.buffers, PAGE)
    assert bench.call("violations", "nic") == ["and 1 more violations, counted only"]
    guest.note(2)
    told = bench.call("violations", "nic")
    assert told[0].startswith("O-7 "), "a rule that has not spoken yet is told in full"


def test_stale_window_left_open_is_not_counted_in_the_next_case(lazy_bench: Bench) -> None:
    guest = lazy_bench.guest()
    ring = guest.up()
    guest.map(left := guest.alloc(PAGE, PAGE), PAGE)
    guest.down(ring)
    assert lazy_bench.call("exposed", "nic").open == 1
    lazy_bench.call("begin_case", "nic")
    guest.note(1)
    seen = lazy_bench.call("exposed", "nic")
    assert (seen.live, seen.at_release, seen.windows, seen.open) == (0, None, 0, 0)
    guest.unmap(left, PAGE)
    seen = lazy_bench.call("exposed", "nic")
    assert (seen.windows, seen.longest_ns) == (0, 0)


def test_windows_of_counts_do_not_overlap(bench: Bench) -> None:
    guest = bench.guest()
    counts = []
    for pages in (3, 0, 5):
        bench.call("window_begin", "nic")
        guest.map(guest.alloc(pages * PAGE, PAGE), pages * PAGE)
        counts.append(bench.call("window_end", "nic")["maps"])
    assert counts == [3, 0, 5]
    with pytest.raises(LaboratoryError, match="window_end"):
        bench.call("window_end", "nic")


def test_client_that_vanishes_leaves_no_mapping_and_the_next_is_served(bench: Bench) -> None:
    guest = bench.guest()
    guest.up().post(5)
    bench.hang_up()
    seen = bench.call("exposed", "nic")
    assert (seen.live, seen.posted, seen.open) == (0, 0, 0)
    ring = bench.guest().up()
    ring.post(5)
    bench.call("send", "nic", Traffic(count=5))
    until(lambda: bench.call("sent", "nic") == (5, True), "frames for the second client")
    assert len(ring.frames()) == 5


def test_events_are_saved_as_arrays_and_as_a_table(bench: Bench, tmp_path: Path) -> None:
    guest = bench.guest()
    guest.map(guest.alloc(PAGE, PAGE), PAGE)
    bench.call("save_events", tmp_path / "events.npz")
    bench.call("save_events", tmp_path / "events.csv")
    with np.load(tmp_path / "events.npz") as arrays:
        assert len(arrays.files) > 0
    lines = (tmp_path / "events.csv").read_text().splitlines()
    assert any("MAP" in line and "nic" in line for line in lines)


METHODS = ("sent", "received", "unplug", "begin_case", "violations", "window_begin", "window_end",
           "exposed", "totals", "device_errors")  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_unknown_nic_is_refused_with_the_names_there_are(bench: Bench, method: str) -> None:
    with pytest.raises(LaboratoryError, match='no NIC "nick"; there are: nic, other'):
        bench.call(method, "nick")


@pytest.mark.parametrize(
    ("method", "value"), [("send", Traffic()), ("link", True), ("latency", LatencyModel()),
                          ("replay", Path("x.pcap"))],
)  # fmt: skip
def test_unknown_nic_is_refused_in_every_method_that_takes_more(
    bench: Bench, method: str, value: object
) -> None:
    with pytest.raises(LaboratoryError, match='no NIC "nick"; there are: nic, other'):
        bench.call(method, "nick", value)
