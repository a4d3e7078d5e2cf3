# SPDX-License-Identifier: MIT
"""VERSION: what is proposed, what is agreed (section "VFIO_USER_VERSION")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from errno import EINVAL, EPROTONOSUPPORT
from typing import Any

from emulator.vfio_user.errors import VfioUserError
from emulator.vfio_user.messages import PROTOCOL_MAJOR, PROTOCOL_MINOR, VERSION_DECL

PAGE_SIZE = 4096
DEFAULT_XFER = 1 << 20  # the specification's default for max_data_xfer_size


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one side takes, or both have agreed on.

    max_msg_fds: descriptors in one message. max_data_xfer_size: bytes of one region or DMA access.
    max_dma_maps: mappings alive at once; QEMU refuses a server that names more than 65535, and then
    does not hold a guest with a vIOMMU to it, so it is told and not enforced. pgsizes: page
    sizes or'ed together. write_multiple: REGION_WRITE_MULTI is understood.
    """

    max_msg_fds: int = 16
    max_data_xfer_size: int = DEFAULT_XFER
    max_dma_maps: int = 65535
    pgsizes: int = PAGE_SIZE
    write_multiple: bool = True


# What counts for a capability that a client does not mention.
UNSAID = Capabilities(1, DEFAULT_XFER, 65535, PAGE_SIZE, False)


def _proposal(data: bytes) -> dict[str, Any]:
    """The "capabilities" object of version data; unknown members are left in it."""
    if not data:
        return {}
    if data[-1] != 0:
        raise VfioUserError(EINVAL, "VERSION data does not end with NUL")
    try:
        parsed = json.loads(data[:-1].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise VfioUserError(EINVAL, f"VERSION data is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise VfioUserError(EINVAL, "VERSION data is not a JSON object")
    capabilities = parsed.get("capabilities", {})
    if not isinstance(capabilities, dict):
        raise VfioUserError(EINVAL, 'VERSION "capabilities" is not a JSON object')
    return capabilities


def _number(proposal: dict[str, Any], name: str, default: int, least: int) -> int:
    value = proposal.get(name, default)
    if type(value) is not int or not least <= value < 1 << 64:
        raise VfioUserError(EINVAL, f"VERSION capability {name}={value!r} is malformed")
    return value


def _agree(proposal: dict[str, Any], ours: Capabilities) -> Capabilities:
    pgsizes = _number(proposal, "pgsizes", UNSAID.pgsizes, 0) & ours.pgsizes
    if not pgsizes:
        raise VfioUserError(EINVAL, f"VERSION pgsizes have none of ours, {ours.pgsizes:#x}")
    multiple = proposal.get("write_multiple", UNSAID.write_multiple)
    if type(multiple) is not bool:
        raise VfioUserError(EINVAL, "VERSION capability write_multiple is not a boolean")

    def least_of(name: str, our: int, default: int, least: int) -> int:
        return min(our, _number(proposal, name, default, least))

    return Capabilities(
        max_msg_fds=least_of("max_msg_fds", ours.max_msg_fds, UNSAID.max_msg_fds, 0),
        max_data_xfer_size=least_of("max_data_xfer_size", ours.max_data_xfer_size, DEFAULT_XFER, 1),
        max_dma_maps=least_of("max_dma_maps", ours.max_dma_maps, UNSAID.max_dma_maps, 1),
        pgsizes=pgsizes,
        write_multiple=multiple and ours.write_multiple,
    )


def negotiate(payload: bytes, ours: Capabilities) -> tuple[Capabilities, bytes]:
    """What is agreed with a client that sent this VERSION payload, and the reply's payload.

    The reply names only what was proposed and nothing larger, so it is never longer than the
    request: QEMU receives it into a buffer of that size.

    Raises:
        VfioUserError: another major version (EPROTONOSUPPORT), malformed data (EINVAL).
    """
    if len(payload) < 4:
        raise VfioUserError(EINVAL, f"VERSION of {len(payload)} bytes, at least 4 are needed")
    version = VERSION_DECL.parse(payload)
    if version.major != PROTOCOL_MAJOR:
        raise VfioUserError(
            EPROTONOSUPPORT, f"protocol {version.major}.{version.minor}, we speak {PROTOCOL_MAJOR}"
        )
    proposal = _proposal(version.data)
    agreed = _agree(proposal, ours)
    named = {name: getattr(agreed, name) for name in Capabilities.__slots__ if name in proposal}
    if not agreed.write_multiple:
        named.pop("write_multiple", None)
    data = json.dumps({"capabilities": named}, separators=(",", ":")).encode() + b"\0"
    return agreed, VERSION_DECL.build(
        {
            "major": PROTOCOL_MAJOR,
            "minor": min(version.minor, PROTOCOL_MINOR),
            "data": data if named else b"",
        }
    )
