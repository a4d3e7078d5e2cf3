# SPDX-License-Identifier: MIT
"""Faults played on a rung, and how driver and host took them."""
