# SPDX-License-Identifier: MIT
"""docs/thread.md, made of the experiments: ``python -m testbed.twin.thread.page [--check]``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from testbed.count.claims import Claim, claims
from testbed.count.kept import load_count
from testbed.twin.scenario import Traffic
from testbed.twin.thread import allocator, device, iommu, pools, storage
from testbed.twin.thread.experiment import MEMORY_MIB, PACKETS
from testbed.twin.thread.row import Row

PAGE = Path(__file__).resolve().parents[3] / "docs" / "thread.md"

EXPERIMENTS = (
    pools.t1,
    pools.t2,
    pools.t3,
    allocator.t4,
    allocator.t5,
    pools.t6,
    iommu.t7,
    pools.t8,
    allocator.t9,
    allocator.t10,
    iommu.t11,
    iommu.t12,
    device.t13,
    iommu.t14,
    iommu.t15,
    storage.t16,
    storage.t17,
    storage.t18,
    device.t19,
    device.t20,
    pools.t21,
    allocator.t22,
)
"""In the order of the claims: T1 is the first."""

INTRO = f"""<!-- SPDX-License-Identifier: MIT -->
<!-- Written by `make thread`; edit testbed/twin/thread, not this file. -->
# The discussion of 2016, claim by claim

In April 2016 kernel developers discussed a "generic page-pool recycle facility" on a mailing list.
Each claim made there is a row here: what was claimed, in our words; what the twin shows; on what
assumptions. Every number comes from a run. A run is {PACKETS} packets after half as many to warm
up, on a host with {MEMORY_MIB} MiB of memory and a 3 GHz clock, unless its row says otherwise.
Polls of 64 packets follow a first one of {Traffic().first_poll}: in step with blocks of 16 or 64
buffers they would fill and unmap each as a whole, and show nothing of what the others in it expose.

Counts are exact and repeat; cycles are counts priced by presets whose numbers name their sources
([costs.md](costs.md)); both are for each packet. *Exposed* is memory that the device reaches
although it is not the device's: bytes times microseconds, for each packet, as the ledger judges it.

The verdict is on the claim in this model. It cannot say what hardware at hand would do: for that
there is the VM. Where the claim can be counted there, instruction by instruction in Linux
{{kernel}}, the figures and their own verdict stand beside: see [counting.md](counting.md), which
also says how to renew them.
"""


@cache
def row(number: int) -> Row:
    """Row T``number``; its experiment runs the first time."""
    return EXPERIMENTS[number - 1]()


@cache
def counted() -> dict[int, Claim]:
    """What was counted in the kernel, by the number of the row; docs/counted.json has the data."""
    return {int(claim.number.removeprefix("T")): claim for claim in claims(load_count())}


def intro() -> str:
    """What stands before the first table."""
    kernel = re.match(r"\d+\.\d+", load_count().kernel_release)
    return INTRO.format(kernel=kernel[0] if kernel else load_count().kernel_release)


def section(found: Row) -> str:
    """One row as Markdown."""
    kernel = counted().get(found.number)
    lines = [
        f"## T{found.number}: {found.title}",
        f"*{found.who}.* {found.claim}",
        f"**{found.verdict[0].upper()}{found.verdict[1:]}.** {found.seen.format(**found.facts)}",
        _table(found.headers, found.lines),
        *([_kernel_text(kernel)] if kernel else []),
        f"Assumed: {found.assumes}",
    ]
    return "\n\n".join(lines) + "\n"


def summary(found: list[Row]) -> str:
    """The table of verdicts at the top."""
    lines = [
        (f"[T{r.number}](#{_anchor(r)})", r.title, r.who, r.verdict, _kernel_cell(r.number))
        for r in found
    ]
    return _table(("row", "claim", "who", "in our model", "counted in the kernel"), lines) + "\n"


def _kernel_cell(number: int) -> str:
    claim = counted().get(number)
    return f"{claim.judgement}: {claim.short}" if claim else ""


def _kernel_text(claim: Claim) -> str:
    """What was counted; its claim is put so that it can be counted, so it is said again."""
    return f"*Counted in the kernel.* {claim.claim}: **{claim.judgement}**. {claim.counted}."


def page() -> str:
    """All of it. Takes a minute: every experiment runs."""
    found = [row(number) for number in range(1, len(EXPERIMENTS) + 1)]
    return "\n".join([intro(), summary(found), *(section(each) for each in found)])


def _anchor(found: Row) -> str:
    kept = "".join(c for c in found.title.lower() if c.isalnum() or c in " -")
    return f"t{found.number}-{kept.replace(' ', '-')}"


def _table(headers: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    aligned = [
        "---" if i == 0 else "---:" if _numeric(lines, i) else "---" for i in range(len(headers))
    ]
    rows = [headers, tuple(aligned), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _numeric(lines: Sequence[tuple[str, ...]], column: int) -> bool:
    return all(any(c.isdigit() for c in line[column][:2]) for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Writes the page, or says whether it is what would be written (status 1: it is not)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    text = page()
    if options.check:
        same = PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name}: {'up to date' if same else 'out of date: run make thread'}")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE}: {len(EXPERIMENTS)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
