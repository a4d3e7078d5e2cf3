# SPDX-License-Identifier: MIT
"""MSI-X: what is delivered, what stays pending, and in which order it comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.pci.capabilities import MSIX_ENABLE, MSIX_FUNCTION_MASK, MSIX_PBA_OFFSET
from emulator.pci.msix import Msix

VECTORS = 4


@pytest.fixture
def sent():
    return []


@pytest.fixture
def msix(sent):
    """On, with event descriptors for every vector, as QEMU leaves it."""
    msix = Msix(VECTORS, sent.append)
    msix.connect(True)
    msix.control(MSIX_ENABLE)
    msix.set_trigger(range(VECTORS), True)
    return msix


def pba(msix):
    return int.from_bytes(msix.read(MSIX_PBA_OFFSET, 8), "little")


def mask(msix, vector, masked):
    msix.write(16 * vector + 12, int(masked).to_bytes(4, "little"))


def test_vector_with_a_trigger_is_delivered_at_once(msix, sent):
    msix.raise_vector(2)
    assert sent == [2] and pba(msix) == 0


def test_masked_vector_is_pending_and_delivered_once_on_unmask(msix, sent):
    mask(msix, 1, True)
    for _ in range(3):
        msix.raise_vector(1)
    assert sent == [] and pba(msix) == 0b10
    mask(msix, 1, False)
    assert sent == [1] and pba(msix) == 0
    mask(msix, 1, False)
    assert sent == [1]


def test_table_that_nobody_wrote_does_not_mask_a_triggered_vector(msix, sent):
    assert msix.read(12, 4) == b"\1\0\0\0", "the mask bit is set after reset"
    msix.raise_vector(0)
    assert sent == [0]


def test_writing_one_entry_does_not_mask_the_others(msix, sent):
    mask(msix, 1, True)
    msix.raise_vector(0)
    assert sent == [0]


def test_function_mask_holds_all_and_releases_in_order_of_vectors(msix, sent):
    msix.control(MSIX_ENABLE | MSIX_FUNCTION_MASK)
    for vector in (3, 0, 2):
        msix.raise_vector(vector)
    assert sent == [] and pba(msix) == 0b1101
    msix.control(MSIX_ENABLE)
    assert sent == [0, 2, 3] and pba(msix) == 0


def test_unmasking_one_vector_does_not_release_another(msix, sent):
    for vector in (1, 2):
        mask(msix, vector, True)
        msix.raise_vector(vector)
    mask(msix, 2, False)
    assert sent == [2] and pba(msix) == 0b10


def test_vector_without_trigger_is_delivered_when_it_gets_one(sent):
    msix = Msix(VECTORS, sent.append)
    msix.connect(True)
    msix.control(MSIX_ENABLE)
    msix.raise_vector(3)
    assert sent == []
    msix.set_trigger([3], True)
    assert sent == [3]


def test_vector_masked_by_message_stays_pending(msix, sent):
    msix.hold([1], True)
    msix.raise_vector(1)
    assert sent == []
    msix.hold([1], False)
    assert sent == [1]


def test_disconnected_function_sends_nothing_until_it_may(msix, sent):
    msix.connect(False)
    msix.raise_vector(1)
    assert sent == [] and pba(msix) == 0b10
    msix.connect(True)
    assert sent == [1]


def test_switching_msix_off_forgets_what_was_pending(msix, sent):
    mask(msix, 1, True)
    msix.raise_vector(1)
    msix.control(0)
    msix.control(MSIX_ENABLE)
    mask(msix, 1, False)
    assert sent == []


def test_interrupt_while_msix_was_never_on_is_lost(sent):
    msix = Msix(VECTORS, sent.append)
    msix.connect(True)
    msix.raise_vector(0)
    msix.control(MSIX_ENABLE)
    msix.set_trigger([0], True)
    assert sent == []


def test_disable_takes_triggers_and_pending_away(msix, sent):
    msix.hold([0], True)
    msix.raise_vector(0)
    msix.disable()
    msix.set_trigger([0], True)
    assert sent == []
    msix.raise_vector(0)
    assert sent == [0]


def test_reset_masks_clears_pending_and_keeps_triggers(msix, sent):
    mask(msix, 1, True)
    msix.raise_vector(1)
    msix.write(0, b"\xab" * 12)
    msix.reset()
    assert pba(msix) == 0 and msix.read(0, 16) == bytes(12) + b"\1\0\0\0"
    msix.raise_vector(1)
    assert sent == [1]


@pytest.mark.parametrize("vector", [-1, VECTORS, 0xFFFF])
def test_unknown_vector_is_ignored(msix, sent, vector):
    msix.raise_vector(vector)
    assert sent == [] and pba(msix) == 0


def test_pending_bits_cannot_be_written(msix):
    msix.write(MSIX_PBA_OFFSET, b"\xff" * 8)
    assert pba(msix) == 0


def test_reserved_bits_of_vector_control_are_zero(msix):
    msix.write(12, b"\xff" * 4)
    assert msix.read(12, 4) == b"\1\0\0\0"


def test_bar_outside_table_and_pba_reads_zero(msix):
    msix.write(16 * VECTORS, b"\xff" * 16)
    assert msix.read(16 * VECTORS, 16) == bytes(16)
    assert msix.read(4088, 8) == bytes(8)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("raise"), st.integers(-1, VECTORS)),
        st.tuples(st.just("table"), st.integers(0, 16 * VECTORS), st.binary(max_size=20)),
        st.tuples(st.just("control"), st.sampled_from([0xC000, 0x8000])),
        st.tuples(st.just("hold"), st.integers(0, VECTORS - 1), st.booleans()),
        st.tuples(st.just("trigger"), st.integers(0, VECTORS - 1), st.booleans()),
        st.tuples(st.just("connect"), st.booleans()),
    ),
    max_size=40,
)


@given(operations)
def test_every_interrupt_is_delivered_or_pending_and_none_is_invented(sequence):
    sent = []
    msix = Msix(VECTORS, sent.append)
    msix.control(MSIX_ENABLE)
    raised = set()
    for name, *arguments in sequence:
        before = len(sent)
        if name == "raise":
            msix.raise_vector(*arguments)
            raised |= {arguments[0]} & set(range(VECTORS))
        elif name == "table":
            msix.write(*arguments)
        elif name == "control":
            msix.control(*arguments)
        elif name == "connect":
            msix.connect(*arguments)
        else:
            change = msix.hold if name == "hold" else msix.set_trigger
            change([arguments[0]], arguments[1])
        assert sent[before:] == sorted(sent[before:])
        assert set(sent) | msix.pending == raised
    pending = msix.pending
    bits = pba(msix)
    assert {v for v in range(64) if bits >> v & 1} == pending
