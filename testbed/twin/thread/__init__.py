# SPDX-License-Identifier: MIT
"""The discussion of 2016, claim by claim: an experiment each, and the page that shows them.

``T1`` to ``T22`` are the claims in the order in which they were made. Each is a function that runs
the twin and returns a :class:`~testbed.twin.thread.row.Row`; ``docs/thread.md`` is made of these
(``make thread``), and the tests in ``tests/unit/twin`` judge the same numbers.
"""
