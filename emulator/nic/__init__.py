# SPDX-License-Identifier: MIT
"""The multi-queue NIC: registers, rings, receive, transmit, and what its cable leads to."""
