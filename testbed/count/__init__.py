# SPDX-License-Identifier: MIT
"""Counts, per packet, what each receive strategy costs the real kernel: see docs/counting.md."""
