"""How often Python looks for garbage in cycles: rarely, in a process that keeps many live objects.

Input: none. Output: other thresholds of the collector. A full collection visits every object that
lives; with a thousand clusters in memory it held up the control plane for a quarter of a second,
every few seconds. Our values hold no cycles: they go when nobody refers to them.
"""

import gc

YOUNG = 20_000  # objects that are new, net, before the youngest are visited
MIDDLE = 20
FULL = 200


def collect_rarely() -> None:
    """Exempt what lives now, and visit the old objects much less often than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
