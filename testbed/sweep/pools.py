# SPDX-License-Identifier: MIT
"""Where the points of a sweep are solved: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from testbed.sweep.errors import SchedulerError
from testbed.sweep.runner import Pool

_CONNECT_S = 10


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """Processes of this machine, started afresh: nothing of this one's threads is copied."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def dask_pool(address: str) -> Pool:
    """Workers of the Dask scheduler at ``address`` (``tcp://host:port``), as many as it has.

    A point whose worker died is tried on another one by the scheduler; one that keeps killing
    them comes back as ``KilledWorker``.

    Raises:
        SchedulerError: (when opened) not installed, or the scheduler cannot be reached.
    """

    @contextmanager
    def connect(_workers: int) -> Iterator[Executor]:
        try:
            from distributed import Client
        except ImportError:
            raise SchedulerError("--scheduler needs dask: pip install 'dmabed[dask]'") from None
        try:
            make: Any = Client  # distributed has no annotations
            client = make(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise SchedulerError(f"scheduler {address}: {error}") from error
        try:
            yield client.get_executor(pure=False)
        finally:
            client.close()

    return connect


def cluster_size(address: str) -> int:
    """Threads of all workers of the scheduler at ``address``; at least 1.

    Raises:
        SchedulerError: as :func:`dask_pool`.
    """
    with dask_pool(address)(0) as executor:
        client: Any = executor._client  # type: ignore[attr-defined]
        return max(1, sum(int(threads) for threads in client.nthreads().values()))
