# SPDX-License-Identifier: MIT
"""What can go wrong around the virtual machine, one named error each."""

from collections.abc import Sequence

from emulator.errors import DmabedError


class VmError(DmabedError):
    """Base of the errors of this package."""


class SetupError(VmError):
    """Something the guest needs is missing and could not be provided; the text names the cure."""


class BuildError(VmError):
    """A kernel module or the agent did not compile; the text holds the compiler's output."""


class ProtocolError(VmError):
    """Bytes on the agent's port that are no frame, or a frame in the wrong place."""


class TransferError(VmError):
    """The guest refused to write or read a file; the text names the path and the errno."""


class TraceError(VmError):
    """The guest's trace cannot be had or read; the text says what is missing or wrong."""


class CommandFailed(VmError):
    """A checked command ended with a status other than 0."""


class CommandTimeout(VmError):
    """A command ran out of its time; its process group was killed."""


class GuestError(VmError):
    """The guest is no longer usable.  `console` holds its last console lines."""

    def __init__(self, what: str, console: Sequence[str] = ()) -> None:
        self.console = tuple(console)
        tail = "".join(f"\n  | {line}" for line in console)
        super().__init__(f"{what}; last console lines:{tail or ' (none)'}")


class GuestPanicked(GuestError):
    """The guest's kernel panicked or reset itself."""


class GuestHung(GuestError):
    """The guest did not answer a heartbeat in time, although QEMU lives."""


class QemuDied(GuestError):
    """QEMU ended without being asked to; the text holds its exit status and what it printed."""
