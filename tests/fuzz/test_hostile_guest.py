# SPDX-License-Identifier: MIT
"""No program of a hostile guest crashes the device, makes it hang, or gets it out of its memory."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.iommu.dma import SpaceDma
from emulator.vfio_user.messages import Command
from tests.fuzz.hostile import PAGE, RECORD, HostileGuest, play
from tests.support.vfio_user_client import map_payload

PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(PATIENT, max_examples=60)
@given(program=st.binary(min_size=RECORD, max_size=60 * RECORD))
def test_no_program_crashes_the_device_or_gets_it_out_of_what_is_mapped(program):
    play(program)


#: Ring, map and descriptor moves in a row, so that DMA happens more often than by chance.
MOVES = st.sampled_from([4, 4, 5, 5, 6, 8, 8, 1, 7, 10])
BODY = st.binary(min_size=RECORD - 1, max_size=RECORD - 1)


@settings(PATIENT, max_examples=60)
@given(steps=st.lists(st.tuples(MOVES, BODY), min_size=5, max_size=60))
def test_no_rings_and_descriptors_get_the_device_out_of_what_is_mapped(steps):
    play(b"".join(bytes([move]) + body for move, body in steps))


@pytest.mark.parametrize("seed", range(2))
def test_a_long_program_holds_no_more_memory_than_a_short_one(seed):
    import tracemalloc

    rng = np.random.default_rng(seed)
    guest = HostileGuest()
    try:
        guest.run(rng.bytes(3_000))
        tracemalloc.start()
        guest.run(rng.bytes(3_000))
        middle = tracemalloc.get_traced_memory()[0]
        guest.run(rng.bytes(12_000))
        grown = tracemalloc.get_traced_memory()[0] - middle
        tracemalloc.stop()
        guest.check()
        assert grown < 8 << 20, f"{grown} bytes more"
    finally:
        guest.close()


def test_a_file_of_the_host_is_not_guest_memory(tmp_path):
    """A client that passes any other file learns and changes nothing by it."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 1000)
    guest = HostileGuest()
    before = len(list(guest.endpoint.space))
    fds = [os.open(secret, os.O_RDWR), os.open("/dev/zero", os.O_RDWR), *os.pipe()]
    try:
        for fd in fds:
            guest.message(Command.DMA_MAP, map_payload(1 << 40, PAGE), [fd])
        assert len(list(guest.endpoint.space)) == before
        assert secret.read_bytes() == b"secret" * 1000
    finally:
        for fd in fds:
            os.close(fd)
        guest.close()


def test_the_programs_do_reach_memory(monkeypatch):
    """Otherwise the tests above would pass for a device that does nothing."""
    landed = []
    for name in ("read", "write", "scatter", "gather"):
        real = getattr(SpaceDma, name)

        def spy(self, *args, name=name, real=real):
            result = real(self, *args)
            landed.append(name)
            return result

        monkeypatch.setattr(SpaceDma, name, spy)
    rng = np.random.default_rng(7)
    for _ in range(30):
        moves = rng.choice([4, 4, 5, 6, 8], 60).tolist()
        play(b"".join(bytes([move]) + rng.bytes(RECORD - 1) for move in moves))
    assert set(landed) == {"read", "write", "scatter", "gather"}


def test_the_checks_find_a_device_that_writes_where_it_may_not(monkeypatch):
    guest = HostileGuest()
    try:
        guest.run(b"\x00")
        os.pwrite(guest.guest, b"!", PAGE)
        with pytest.raises(AssertionError, match="never mapped"):
            guest.check()
    finally:
        guest.close()
