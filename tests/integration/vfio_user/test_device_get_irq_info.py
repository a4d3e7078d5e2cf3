# SPDX-License-Identifier: MIT
"""DEVICE_GET_IRQ_INFO over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, IrqFlag, PciIrq
from tests.support.vfio_user_client import RefusedError


def test_an_interrupt_type_tells_its_count_and_abilities(client):
    msix = client.get_irq_info(PciIrq.MSIX)
    assert (msix.argsz, msix.index, msix.count) == (16, PciIrq.MSIX, 4)
    assert msix.flags == IrqFlag.EVENTFD | IrqFlag.MASKABLE
    assert client.get_irq_info(PciIrq.MSI).count == 0


@pytest.mark.parametrize(
    "payload", [b"", wire.IRQ_INFO.pack(15, 0, 0, 0), wire.IRQ_INFO.pack(16, 0, 5, 0)]
)
def test_a_malformed_query_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_GET_IRQ_INFO, payload)
    assert refused.value.errno == EINVAL
