# SPDX-License-Identifier: MIT
"""Commands that exist and are not for us, and commands that do not exist."""

from errno import EINVAL, ENOSYS, ENOTSUP, ENOTTY

import pytest

from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (Command.DMA_READ, EINVAL),
        (Command.DMA_WRITE, EINVAL),
        (Command.DIRTY_PAGES, ENOTSUP),
        (Command.DEVICE_FEATURE, ENOTTY),
        (Command.MIG_DATA_READ, ENOTSUP),
        (Command.MIG_DATA_WRITE, ENOTSUP),
        (0, ENOSYS),
        (19, ENOSYS),
        (0xFFFF, ENOSYS),
    ],
)
def test_it_is_refused_by_its_errno_and_the_session_goes_on(client, guest_fd, command, errno):
    with pytest.raises(RefusedError) as refused:
        client.request(command, bytes(16), [guest_fd])
    assert refused.value.errno == errno
    assert client.get_info().num_regions == 9
