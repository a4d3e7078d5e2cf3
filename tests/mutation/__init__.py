# SPDX-License-Identifier: MIT
"""Breaks the code on purpose, to see that a test fails."""
