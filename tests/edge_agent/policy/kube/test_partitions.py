import pytest

from edge_agent.policy.kube.partitions import amd_parts, mig_cards


@pytest.mark.parametrize(
    ("profile", "product", "parts"),
    [
        ("spx_nps1", "Instinct_MI300X_OAM", 1),
        ("dpx_nps2", "Instinct_MI300X_OAM", 2),
        ("qpx_nps1", "Instinct_MI300X_OAM", 4),
        ("cpx_nps4", "Instinct_MI300X_OAM", 8),
        ("cpx_nps1", "Instinct_MI300A", 6),
        ("", "Instinct_MI210", 1),
        ("zpx_nps9", "", 1),
    ],
)
def test_partitions_of_an_amd_gpu(profile: str, product: str, parts: int) -> None:
    assert amd_parts(profile, product) == parts


# How many fit on one GPU: NVIDIA's MIG user guide, supported profiles.
@pytest.mark.parametrize(
    ("product", "memory_mib", "profile", "fitting"),
    [
        ("A100-SXM4-40GB", 40960, "1g.5gb", 7),
        ("A100-SXM4-40GB", 0, "2g.10gb", 3),
        ("A100-SXM4-40GB", 0, "3g.20gb", 2),
        ("A100-SXM4-40GB", 0, "4g.20gb", 1),
        ("A100-SXM4-40GB", 0, "7g.40gb", 1),
        ("A100-SXM4-40GB", 0, "1g.10gb", 4),
        ("H100-80GB-HBM3", 81559, "1g.10gb", 7),
        ("H100-80GB-HBM3", 0, "1g.20gb", 4),
        ("H100-80GB-HBM3", 0, "3g.40gb", 2),
        ("H200", 143771, "1g.18gb", 7),
        ("H200", 143771, "1g.35gb", 4),
        ("H200", 143771, "3g.71gb", 2),
        ("A30", 24576, "1g.6gb", 4),
        ("A30", 24576, "2g.12gb", 2),
        ("A30", 24576, "4g.24gb", 1),
    ],
)
def test_gpus_behind_mig_instances(
    product: str, memory_mib: int, profile: str, fitting: int
) -> None:
    for cards in (1, 2, 8):
        full = [(profile, cards * fitting)]
        assert mig_cards(full, product, memory_mib) == cards
        assert mig_cards([(profile, cards * fitting + 1)], product, memory_mib) == cards + 1


def test_gpus_behind_a_mixture() -> None:
    balanced = [("1g.5gb", 16), ("2g.10gb", 8), ("3g.20gb", 8)]
    assert mig_cards(balanced, "A100-SXM4-40GB", 40960) == 8
    assert mig_cards([], "A100", 0) == 0
    assert mig_cards([("odd", 3)], "A100", 0) == 0
