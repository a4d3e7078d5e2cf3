# SPDX-License-Identifier: MIT
"""The cache folder: what was downloaded, unpacked or built once, for all checkouts of one user.

Entries are folders that appear complete or not at all: they are filled under a temporary name and
renamed. A lock file per entry keeps two processes from doing the same work at once.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache folder, created if absent.

    It is `$DMABED_CACHE`, else `dmabed` in `$XDG_CACHE_HOME` or in `~/.cache`.
    """
    if chosen := environ.get("DMABED_CACHE"):
        folder = Path(chosen)
    else:
        base = environ.get("XDG_CACHE_HOME")
        folder = (Path(base) if base else Path.home() / ".cache") / "dmabed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Holds the lock of one cache entry; waits while another process holds it."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_name(f".{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def provide(entry: Path, fill: Callable[[Path], None]) -> Path:
    """Returns `entry`, after letting `fill` make it if it is not there yet.

    `fill` gets an empty folder in the same file system; only when it returns does the folder take
    the entry's name, so an interrupted or failed run leaves nothing that looks complete.
    """
    if entry.exists():
        return entry
    with locked(entry):
        if not entry.exists():
            _fill_and_rename(entry, fill)
    return entry


def _fill_and_rename(entry: Path, fill: Callable[[Path], None]) -> None:
    for stale in entry.parent.glob(f".{entry.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{entry.name}.tmp-", dir=entry.parent))
    try:
        fill(folder)
        folder.chmod(0o755)
        folder.rename(entry)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
