# SPDX-License-Identifier: MIT
"""Device processes with NICs in them: one for all cases of a module, or a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.ledger import Policy
from tests.integration.testbed.support import Bench


def _bench(folder: Path, policy: Policy) -> Iterator[Bench]:
    made = Bench(folder, policy)
    yield made
    made.devices.close()


@pytest.fixture(scope="module")
def strict_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from _bench(tmp_path_factory.mktemp("strict"), Policy())


@pytest.fixture(scope="module")
def lazy_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from _bench(tmp_path_factory.mktemp("lazy"), Policy(lazy=True))


def _case(bench: Bench) -> Iterator[Bench]:
    bench.begin()
    yield bench
    bench.hang_up()
    assert bench.call("device_errors", "nic") == 0


@pytest.fixture
def bench(strict_process: Bench) -> Iterator[Bench]:
    """A new case, judged strictly."""
    yield from _case(strict_process)


@pytest.fixture
def lazy_bench(lazy_process: Bench) -> Iterator[Bench]:
    """A new case, where late invalidation is exposure and no violation."""
    yield from _case(lazy_process)


@pytest.fixture
def forgetful_bench(tmp_path: Path) -> Iterator[Bench]:
    """A process of its own, whose ledger keeps two violations of each rule."""
    for made in _bench(tmp_path, Policy(keep_violations=2)):
        yield from _case(made)
