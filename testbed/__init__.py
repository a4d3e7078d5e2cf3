# SPDX-License-Identifier: MIT
"""The composition root: a scenario in, a run in the middle, a report out."""
