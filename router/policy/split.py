"""Which version answers a request that names none.

Input: the model's route. Output: a version number. Shares of traffic per version belong here when a
rollout splits a model between two.
"""

from federation.contract.types import ModelRoute


def choose(route: ModelRoute) -> int:
    """Return the version for a request that does not pin one."""
    return route.default_version
