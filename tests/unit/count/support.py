# SPDX-License-Identifier: MIT
"""Rows of a count for tests of what is made of them."""

from typing import Any

from testbed.count.results import CountResult, CountRow, PartCount


def row(mode: str, iommu: str = "none", fate: str = "deliver", **values: Any) -> CountRow:
    """A row; ``parts`` as {name: (instructions, atomics)}, all else 0 unless given."""
    parts = values.pop("parts", {"stack": (600.0, 0.2)})
    fields: dict[str, Any] = dict.fromkeys(
        ("loads", "stores", "maps", "unmaps", "allocations", "frees"), 0.0
    )
    fields |= {"device_maps": 0.0, "device_unmaps": 0.0, "interrupts": 0}
    fields |= {"packets": 960, "polls": 16, **values}
    return CountRow(
        mode=mode,  # type: ignore[arg-type]
        iommu=iommu,  # type: ignore[arg-type]
        fate=fate,  # type: ignore[arg-type]
        instructions=sum(n for n, _ in parts.values()),
        atomics=sum(n for _, n in parts.values()),
        parts=tuple(PartCount(name, *counts) for name, counts in parts.items()),
        **fields,
    )


def result(*rows: CountRow) -> CountResult:
    """A result of ``rows``."""
    return CountResult(
        created="2026-01-01T00:00:00+00:00",
        command="dmabed count",
        kernel_release="6.12",
        qemu_version="11.1.3",
        cpus=2,
        frame_bytes=64,
        rows=tuple(rows),
        twin=(),
    )
