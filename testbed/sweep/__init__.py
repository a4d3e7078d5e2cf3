# SPDX-License-Identifier: MIT
"""Many twins at once: a grid of scenarios, solved by processes or a cluster, kept as they come."""
