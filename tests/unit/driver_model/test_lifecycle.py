# SPDX-License-Identifier: MIT
"""Up, down, gone, resized, reset: nothing may stay mapped, posted, in flight or allocated."""

import numpy as np
import pytest

from driver.model.errors import BadConfigError, DeviceGoneError, NoMemoryError, ProbeError
from driver.model.host import run_to_completion as go
from driver.model.inprocess import Machine
from driver.model.main import (
    dmabed_change_mtu,
    dmabed_open,
    dmabed_probe,
    dmabed_remove,
    dmabed_set_channels,
    dmabed_set_ringparam,
    dmabed_stop,
)
from driver.model.stack import Drop, Forward, Hold, LocalPages
from driver.model.structs import Config
from driver.model.tx import dmabed_start_xmit
from driver.model.updown import dmabed_schedule_reset, dmabed_watchdog
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Imix
from emulator.nic.wire.testframes import build
from pool.interface import Context
from tests.unit.driver_model.support import (
    MODES,
    SMALL,
    Bed,
    Silent,
    assert_intact,
    generator,
    mac,
)


@pytest.mark.parametrize("mode", MODES)
def test_200_open_stop_cycles_under_traffic_leave_nothing_behind(mode):
    bed = Bed(generator(None, rate_pps=2_000_000), mode, Forward(), SMALL)
    for _ in range(200):
        bed.run(bed.machine.now_ns + 10_000)
        go(dmabed_stop(bed.priv))
        bed.stack.release()
        bed.assert_nothing_left()
        go(dmabed_open(bed.priv))
    assert bed.priv.stats[0].rx_packets > 500
    bed.remove()


@pytest.mark.parametrize("mode", MODES)
def test_remove_under_traffic_leaves_nothing_and_ends_dma(mode):
    bed = Bed(generator(None, rate_pps=10_000_000), mode, Forward(), SMALL)
    bed.run(300_000)
    assert bed.host.busy
    bed.remove()
    accesses = bed.machine.ledger.timeline.counts.copy()
    for _ in range(10):
        bed.host.touch()
        go(bed.host.sleep_ns(1_000))
    assert bed.machine.ledger.timeline.counts == accesses
    bed.stack.release()


def test_pages_that_the_stack_still_holds_are_unmapped_when_they_come_back():
    stack = Hold()
    bed = Bed(generator(100), stack=stack, cfg=SMALL)
    bed.run()
    go(dmabed_stop(bed.priv))
    held = sum(len(skbs) for skbs in stack.held)
    assert (held, len(bed.host.space)) == (100, 100)
    stack.release(Context.REMOTE)
    go(dmabed_watchdog(bed.priv))
    bed.remove()


def test_removing_while_the_stack_holds_pages_is_a_violation_of_o7():
    stack = Hold()
    bed = Bed(generator(10), stack=stack, cfg=SMALL)
    bed.run()
    go(dmabed_remove(bed.priv))
    assert bed.machine.ledger.verdict().counts == {"O-7": 10}


def test_map_per_packet_may_be_removed_while_the_stack_holds_pages():
    stack = Hold()
    bed = Bed(generator(10), "map_per_packet", stack, SMALL)
    bed.run()
    go(dmabed_remove(bed.priv))
    assert len(bed.host.space) == 0
    stack.release()
    go(dmabed_watchdog(bed.priv))
    bed.assert_nothing_left()


def test_stop_frees_frames_that_were_not_sent():
    bed = Bed(Silent(), cfg=SMALL)
    owner = LocalPages(bed.machine.pages)
    frames = generator(50).receive(50, 0)
    go(dmabed_start_xmit(bed.priv, 0, owner.skbs(bed.host, frames)))
    go(dmabed_stop(bed.priv))
    assert (owner.freed, bed.priv.stats[0].tx_dropped) == (50, 50)
    bed.assert_nothing_left()
    bed.remove()


def test_50_link_flaps_under_traffic_are_followed_and_lose_nothing():
    bed = Bed(generator(5_000, rate_pps=10_000_000), cfg=SMALL)
    for _ in range(50):
        for up in (False, True):
            bed.run(bed.machine.now_ns + 5_000)
            bed.host.link(up)
            bed.run(bed.machine.now_ns + 5_000)
            assert bed.priv.carrier is up
    bed.run()
    assert_intact(bed.checker, 5_000)
    assert bed.priv.link_changes == 101
    bed.remove()


def test_frames_sent_while_the_link_is_down_are_dropped_and_freed():
    bed = Bed(Silent())
    bed.host.link(False)
    bed.run()
    owner = LocalPages(bed.machine.pages)
    frames = generator(5).receive(5, 0)
    assert len(go(dmabed_start_xmit(bed.priv, 2, owner.skbs(bed.host, frames)))) == 0
    assert (owner.freed, bed.priv.stats[2].tx_dropped) == (5, 5)
    bed.remove()


def test_channels_and_rings_change_under_traffic_without_losing_a_frame():
    bed = Bed(generator(20_000, Imix(), rate_pps=5_000_000))
    for channels, ring in [(1, 64), (4, 1024), (2, 128), (3, 4096)]:
        bed.run(bed.machine.now_ns + 200_000)
        go(dmabed_set_channels(bed.priv, channels))
        go(dmabed_set_ringparam(bed.priv, ring, ring))
        assert [rx.rings.size for rx in bed.rx] == [ring] * channels
    bed.run()
    assert bed.wire.done
    assert bed.checker.corrupt == 0
    assert bed.checker.frames > 17_000  # those on the rings when they stopped are lost
    bed.remove()


@pytest.mark.parametrize("channels,ring", [(0, 64), (5, 64), (1, 32), (1, 100), (1, 8192)])
def test_settings_the_device_does_not_have_are_refused(channels, ring):
    bed = Bed(Silent(), cfg=SMALL)
    before = bed.priv.set
    with pytest.raises(BadConfigError):
        go(dmabed_set_channels(bed.priv, channels))
        go(dmabed_set_ringparam(bed.priv, ring, 64))
    assert bed.priv.set is before or channels == 1
    bed.remove()


@pytest.mark.parametrize("mtu", [67, 9005])
def test_an_mtu_the_device_cannot_carry_is_refused(mtu):
    bed = Bed(Silent(), cfg=SMALL)
    with pytest.raises(BadConfigError):
        go(dmabed_change_mtu(bed.priv, mtu))
    bed.remove()


def test_a_set_that_does_not_fit_leaves_the_old_one_running():
    bed = Bed(generator(100), cfg=SMALL, machine=Machine(pages=1 << 11))
    with pytest.raises(NoMemoryError):
        go(dmabed_set_ringparam(bed.priv, 4096, 64))
    bed.run()
    assert_intact(bed.checker, 100)
    bed.remove()


def test_open_without_memory_fails_whole():
    machine = Machine(pages=1 << 10, contiguous=1 << 9)
    host = machine.add_device(NicConfig(mac=mac(0)), Silent())
    priv = go(dmabed_probe(host, Drop(), cfg=Config(1, 1024, 64)))
    with pytest.raises(NoMemoryError):
        go(dmabed_open(priv))
    assert (len(host.space), machine.pages.in_use) == (0, 0)


def test_open_without_iovas_fails_whole():
    machine = Machine()
    host = machine.add_device(NicConfig(mac=mac(0)), Silent())
    host.space.max_mappings = 50
    priv = go(dmabed_probe(host, Drop(), cfg=SMALL))
    with pytest.raises(NoMemoryError):
        go(dmabed_open(priv))
    assert (len(host.space), machine.pages.in_use) == (0, 0)


def test_frames_that_cannot_be_mapped_are_dropped_and_leave_no_mapping():
    bed = Bed(Silent(), cfg=SMALL)
    owner = LocalPages(bed.machine.pages)
    frames = build(mac(9), mac(0), *(generator_row(n) for n in (0, 0, 1514)))
    bed.host.space.max_mappings = len(bed.host.space) + 4
    before = len(bed.host.space)
    skbs = owner.skbs(bed.host, frames, 600)  # three pieces each
    go(dmabed_start_xmit(bed.priv, 0, skbs))
    assert bed.priv.stats[0].tx_dropped == 2
    assert len(bed.host.space) == before + 3
    bed.host.space.max_mappings = 1 << 20
    bed.run()
    assert owner.freed == 9
    bed.remove()


def generator_row(value):
    return np.full(3, value, np.int64)


def test_a_reset_under_traffic_resumes_it():
    bed = Bed(generator(10_000, rate_pps=5_000_000), cfg=Config(2, 512, 512))
    bed.run(500_000)
    dmabed_schedule_reset(bed.priv)
    bed.run()
    assert bed.priv.resets == 1
    assert bed.wire.done
    assert bed.checker.corrupt == 0
    assert bed.checker.frames > 9_000
    bed.remove()


def test_an_unknown_strategy_is_refused_by_probe():
    machine = Machine()
    host = machine.add_device(NicConfig(mac=mac(0)), Silent())
    with pytest.raises(ProbeError, match="page_pool"):
        go(dmabed_probe(host, Drop(), "pagepool"))


def test_probe_of_an_absent_device_fails_with_bus_mastering_off():
    machine = Machine()
    host = machine.add_device(NicConfig(mac=mac(0)), Silent())
    host.absent = True
    with pytest.raises(ProbeError):
        go(dmabed_probe(host, Drop()))
    assert not host.gate.open


@pytest.mark.parametrize("mode", MODES)
def test_a_device_pulled_out_is_removed_in_bounded_time_and_leaves_nothing(mode):
    bed = Bed(generator(None, rate_pps=10_000_000), mode, Forward(), SMALL)
    bed.run(300_000)
    bed.host.absent = True
    before = bed.machine.now_ns
    go(dmabed_remove(bed.priv))
    bed.stack.release()
    assert bed.machine.now_ns - before < 2_000_000_000
    assert (len(bed.host.space), bed.machine.pages.in_use) == (0, 0)
    with pytest.raises(DeviceGoneError):
        go(dmabed_open(bed.priv))
