# SPDX-License-Identifier: MIT
"""Comparisons, each within one run: the socket's own round trip, and QEMU's own NICs."""
