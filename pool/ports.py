# SPDX-License-Identifier: MIT
"""Ports that only some strategies stand on, beyond :mod:`pool.interface`.

An allocator or a DMA API offers one by having its methods; a strategy that
lacks one says so when it is made, not when the first packet comes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from pool.buffers import PfnArray
from pool.errors import MissingPortError
from pool.interface import Direction


@runtime_checkable
class RangeDma(Protocol):
    """A DMA API that maps many pages in a row with one page-table operation."""

    def map_range(self, pfn: int, pages: int, direction: Direction) -> int | None:
        """IOVA of ``pages`` frames from ``pfn`` on; None if refused."""
        ...

    def unmap_range(self, iova: int, pages: int) -> None:
        """Undoes :meth:`map_range`."""
        ...


@runtime_checkable
class ScatterDma(Protocol):
    """A DMA API that joins scattered pages in one IOVA range, as ``dma_map_sg`` on an IOMMU."""

    def map_scattered(self, pfns: PfnArray, direction: Direction) -> int | None:
        """IOVA at which ``pfns`` appear one behind the other; None if refused."""
        ...

    def unmap_scattered(self, iova: int, pages: int) -> None:
        """Ends the range; one invalidation covers it."""
        ...


@runtime_checkable
class SpanPages(Protocol):
    """A page allocator that knows where all memory lies."""

    @property
    def span(self) -> tuple[int, int]:
        """First frame of memory, and how many frames from there on."""
        ...


@runtime_checkable
class CopyPages(Protocol):
    """A page allocator through which the CPU copies."""

    def copy_bytes(
        self, sources: NDArray[Any], destinations: NDArray[Any], lengths: NDArray[Any]
    ) -> None:
        """Copies ``lengths[i]`` bytes; both places are bytes from frame 0 (int64[n])."""
        ...


def missing_port(what: object, port: type, strategy: str) -> MissingPortError:
    """The error to raise when ``what`` does not offer ``port``."""
    return MissingPortError(
        f"{strategy}: {type(what).__name__} is no {port.__name__} (pool/ports.py); "
        "give it those methods or choose another strategy"
    )
