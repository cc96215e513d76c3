from federation.contract.types import ModelRoute
from router.policy.split import choose


def test_a_request_without_a_version_gets_the_default() -> None:
    assert choose(ModelRoute(name="m", default_version=4, aliases={"new": 5})) == 4
