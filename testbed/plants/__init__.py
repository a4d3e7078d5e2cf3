# SPDX-License-Identifier: MIT
"""Planted bugs: which there are, what has to catch each, and the runs that show it."""
