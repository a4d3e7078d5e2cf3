# SPDX-License-Identifier: MIT
"""A batch of Ethernet frames: one flat byte array and where each frame lies in it.

The wire side of the NIC, its generators and its pcap files all speak in batches, so that the cost
of Python is paid once a batch instead of once a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class FrameBatch:
    """``n`` frames without FCS.

    data: uint8[total bytes]; offsets, lengths: int64[n], bytes. Frame ``i`` is
    ``data[offsets[i] : offsets[i] + lengths[i]]``. Frames may share bytes; nobody writes to
    any of it. (Not a frozen class: making one takes four times as long.)
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> FrameBatch:
        """The frames of ``rows``, sharing the bytes."""
        return FrameBatch(self.data, self.offsets[rows], self.lengths[rows])

    def __iter__(self) -> Iterator[bytes]:
        for start, length in zip(self.offsets.tolist(), self.lengths.tolist(), strict=True):
            yield self.data[start : start + length].tobytes()

    @property
    def total_bytes(self) -> int:
        """Bytes of all frames."""
        return int(self.lengths.sum())

    @classmethod
    def empty(cls) -> FrameBatch:
        """No frame."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros(0, np.uint8), none, none)

    @classmethod
    def of(cls, frames: Iterable[bytes]) -> FrameBatch:
        """A batch that holds a copy of each of ``frames``."""
        parts = list(frames)
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        offsets = np.zeros(len(parts), np.int64)
        np.cumsum(lengths[:-1], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets, lengths)

    @classmethod
    def concat(cls, batches: Iterable[FrameBatch]) -> FrameBatch:
        """All frames of ``batches``, in order."""
        parts = [b for b in batches if len(b)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        bases = np.cumsum([0] + [len(b.data) for b in parts[:-1]])
        offsets = [b.offsets + base for b, base in zip(parts, bases.tolist(), strict=True)]
        return cls(
            np.concatenate([b.data for b in parts]),
            np.concatenate(offsets),
            np.concatenate([b.lengths for b in parts]),
        )


NO_FRAMES = FrameBatch.empty()
"""No frame, made once."""
