"""The table of XIDs against NVIDIA's catalog."""

import pytest

from edge_agent.policy.nvidia_xids import KNOWN, Effect, xid

# Immediate action in the catalog (https://docs.nvidia.com/deploy/xid-errors/).
RESET_GPU = (46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158)
RESTART_APP = (8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 80, 82, 86, 94, 96, 105, 126, 139)
IGNORE = (14, 37, 38, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 141, 157, 160, 161)


@pytest.mark.parametrize(
    ("codes", "effect"),
    [
        (RESET_GPU, Effect.UNUSABLE),
        ((79, 151), Effect.UNUSABLE),  # RESTART_BM, RESTART_VM
        ((48, 74), Effect.UNUSABLE),  # workflows: "a reset or reboot is needed to clear this error"
        (RESTART_APP, Effect.APPLICATION),
        ((43, 45, 137), Effect.APPLICATION),  # IGNORE: a user's error or action
        (IGNORE, Effect.NOTED),
        ((0, 1, 7, 9999), Effect.NOTED),
    ],
)
def test_codes_mean_what_the_catalog_says(codes: tuple[int, ...], effect: Effect) -> None:
    assert {code: xid(code).effect for code in codes} == dict.fromkeys(codes, effect)


def test_words_name_the_code() -> None:
    assert str(xid(79)) == "XID 79: fallen off the bus, its host needs a restart"
    assert str(xid(4711)) == "XID 4711: not in the table"
    assert all(found.words and found.code == code for code, found in KNOWN.items())
