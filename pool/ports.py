# SPDX-License-Identifier: MIT
"""What a strategy asks of its host: pages and mappings, as kernels.

A strategy calls these with whatever plays the host. The Python driver's is :class:`HostPorts`: it
passes each call on to a page allocator and a DMA API that are Python objects. The twin's is a named
tuple of arrays with implementations of its own (``testbed/twin``).

Frames, addresses and counts are int64; an address that is none is ``NO_ADDRESS`` (-1, whose bits
are the kernel's DMA_MAPPING_ERROR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from emulator.kernel import Ints, generic
from pool.buffers import PfnArray, constant
from pool.errors import MissingPortError
from pool.interface import Direction, DmaApi, PageAllocator

NO_ADDRESS = -1

Host = Any
"""Whatever plays the host."""


def _alloc_pages(host: Host, count: int, order: int, bulk: bool, out: Ints) -> int:
    """First frames of up to ``count`` blocks of ``2**order`` pages into ``out``; how many.

    ``bulk``: asked for by one call (alloc_pages_bulk), else by a call each.
    """
    raise NotImplementedError


def _free_pages(host: Host, count: int, order: int, bulk: bool, pfns: Ints) -> None:
    """Gives ``count`` blocks of ``2**order`` pages back, by their first frames."""
    raise NotImplementedError


def _map_pages(host: Host, count: int, order: int, pfns: Ints, out: Ints) -> None:
    """Maps blocks, each on its own: addresses into ``out``, NO_ADDRESS where refused."""
    raise NotImplementedError


def _unmap_pages(host: Host, count: int, order: int, iovas: Ints) -> None:
    """Ends mappings of :func:`map_pages`, each with an invalidation of its own."""
    raise NotImplementedError


def _map_range(host: Host, pfn: int, pages: int) -> int:
    """Maps ``pages`` frames from ``pfn`` on by one page-table operation; NO_ADDRESS: refused."""
    raise NotImplementedError


def _unmap_range(host: Host, iova: int, pages: int) -> None:
    """Undoes :func:`map_range`."""
    raise NotImplementedError


def _map_scattered(host: Host, pages: int, pfns: Ints) -> int:
    """Address at which ``pfns`` appear one behind the other (dma_map_sg); NO_ADDRESS: refused."""
    raise NotImplementedError


def _unmap_scattered(host: Host, iova: int, pages: int) -> None:
    """Ends the range; one invalidation covers it."""
    raise NotImplementedError


def _sync_for_device(host: Host, count: int, iovas: Ints, length: int) -> None:
    """Hands ``length`` bytes at each address from the CPU to the device."""
    raise NotImplementedError


def _sync_for_cpu(host: Host, count: int, iovas: Ints, lengths: Ints) -> None:
    """Hands ``lengths[i]`` bytes at ``iovas[i]`` to the CPU."""
    raise NotImplementedError


def _copy_bytes(host: Host, count: int, sources: Ints, targets: Ints, lengths: Ints) -> None:
    """The CPU copies; places are bytes from frame 0."""
    raise NotImplementedError


alloc_pages, implement_alloc_pages = generic(_alloc_pages)
free_pages, implement_free_pages = generic(_free_pages)
map_pages, implement_map_pages = generic(_map_pages)
unmap_pages, implement_unmap_pages = generic(_unmap_pages)
map_range, implement_map_range = generic(_map_range)
unmap_range, implement_unmap_range = generic(_unmap_range)
map_scattered, implement_map_scattered = generic(_map_scattered)
unmap_scattered, implement_unmap_scattered = generic(_unmap_scattered)
sync_for_device, implement_sync_for_device = generic(_sync_for_device)
sync_for_cpu, implement_sync_for_cpu = generic(_sync_for_cpu)
copy_bytes, implement_copy_bytes = generic(_copy_bytes)


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


@dataclass(frozen=True, slots=True)
class HostPorts:
    """A host of Python objects. Which optional ports they have is checked when a pool is made."""

    allocator: PageAllocator
    dma: DmaApi
    direction: Direction


@implement_alloc_pages(HostPorts)
def _alloc(host: HostPorts, count: int, order: int, bulk: bool, out: Ints) -> int:
    pfns = host.allocator.alloc_pages(int(count), int(order))
    out[: len(pfns)] = pfns
    return len(pfns)


@implement_free_pages(HostPorts)
def _free(host: HostPorts, count: int, order: int, bulk: bool, pfns: Ints) -> None:
    if count:
        host.allocator.free_pages(pfns[:count].copy(), int(order))


@implement_map_pages(HostPorts)
def _map(host: HostPorts, count: int, order: int, pfns: Ints, out: Ints) -> None:
    if count:
        iovas = host.dma.map_pages(pfns[:count].copy(), host.direction, int(order))
        out[:count] = iovas.view(np.int64)


@implement_unmap_pages(HostPorts)
def _unmap(host: HostPorts, count: int, order: int, iovas: Ints) -> None:
    if count:
        host.dma.unmap_pages(iovas[:count].astype(np.uint64), int(order))


@implement_map_range(HostPorts)
def _map_row(host: HostPorts, pfn: int, pages: int) -> int:
    assert isinstance(host.dma, RangeDma)
    return _address(host.dma.map_range(int(pfn), int(pages), host.direction))


@implement_unmap_range(HostPorts)
def _unmap_row(host: HostPorts, iova: int, pages: int) -> None:
    assert isinstance(host.dma, RangeDma)
    host.dma.unmap_range(int(iova), int(pages))


@implement_map_scattered(HostPorts)
def _map_list(host: HostPorts, pages: int, pfns: Ints) -> int:
    assert isinstance(host.dma, ScatterDma)
    return _address(host.dma.map_scattered(pfns[:pages].copy(), host.direction))


@implement_unmap_scattered(HostPorts)
def _unmap_list(host: HostPorts, iova: int, pages: int) -> None:
    assert isinstance(host.dma, ScatterDma)
    host.dma.unmap_scattered(int(iova), int(pages))


@implement_sync_for_device(HostPorts)
def _to_device(host: HostPorts, count: int, iovas: Ints, length: int) -> None:
    if count:
        lengths = constant(int(length), count)
        host.dma.sync_for_device(iovas[:count].astype(np.uint64), lengths)


@implement_sync_for_cpu(HostPorts)
def _to_cpu(host: HostPorts, count: int, iovas: Ints, lengths: Ints) -> None:
    if count:
        host.dma.sync_for_cpu(iovas[:count].astype(np.uint64), lengths[:count])


@implement_copy_bytes(HostPorts)
def _copy(host: HostPorts, count: int, sources: Ints, targets: Ints, lengths: Ints) -> None:
    assert isinstance(host.allocator, CopyPages)
    if count:
        host.allocator.copy_bytes(sources[:count], targets[:count], lengths[:count])


def _address(found: int | None) -> int:
    return NO_ADDRESS if found is None else found
