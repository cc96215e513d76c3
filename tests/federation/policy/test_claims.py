from federation.contract.capacity import Resources
from federation.policy.claims import Claim, amount, joined

ONE = Resources(gpus=1)


def test_what_a_holder_is_owed_joins_what_it_has() -> None:
    held = [Claim(holder="a 1", needs=ONE, replicas=2), Claim(holder="b 1", needs=ONE)]
    owed = [Claim(holder="a 1", needs=ONE), Claim(holder="c 1", needs=ONE, replicas=3)]
    whole = {claim.holder: claim.replicas for claim in joined(held, owed)}
    assert whole == {"a 1": 3, "b 1": 1, "c 1": 3}


def test_needs_are_told_as_people_say_them() -> None:
    assert amount(ONE) == "1 GPU"
    assert amount(Resources(gpus=2, memory_mib=24 * 1024)) == "2 GPUs with 24 GiB"
    assert amount(Resources(gpus=1, fraction=0.25)) == "0.25 of a GPU"
