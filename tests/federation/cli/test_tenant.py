import json

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

WORDS = (
    "--models", "llama-*,ocr", "--residency", "eu-west", "--requests-per-minute", "600",
    "--tokens-per-minute", "100000", "--max-concurrent", "50",
)  # fmt: skip


def test_create_says_what_comes_next(fed: Fed, plane: FakeControlPlane) -> None:
    done = fed("tenant", "create", "acme", *WORDS)
    assert (done.code, done.out) == (0, "tenant/acme created\n")
    assert "fed key create acme-1 --tenant acme" in done.err
    assert plane.objects["tenants"]["acme"]["spec"] == {
        "models": ["llama-*", "ocr"],
        "residency": ["eu-west"],
        "requests_per_minute": 600,
        "tokens_per_minute": 100000,
        "max_concurrent": 50,
    }
    again = fed("tenant", "create", "acme", *WORDS)
    assert (again.out, again.err) == ("tenant/acme unchanged\n", "")
    other = fed("tenant", "create", "acme")
    assert (other.code, "fed tenant change acme" in other.err) == (5, True)


def test_change_leaves_what_no_flag_names(fed: Fed, plane: FakeControlPlane) -> None:
    fed("tenant", "create", "acme", *WORDS)
    changed = fed("tenant", "change", "acme", "--residency", "", "--max-concurrent", "0")
    assert changed.out == "tenant/acme configured\n"
    spec = plane.objects["tenants"]["acme"]["spec"]
    assert (spec["residency"], spec["max_concurrent"], spec["models"]) == (
        [],
        0,
        ["llama-*", "ocr"],
    )
    assert fed("tenant", "change", "acme").out == "tenant/acme unchanged\n"
    missing = fed("tenant", "change", "nobody", "--max-concurrent", "1")
    assert (missing.code, "fed tenant create nobody" in missing.err) == (3, True)


@pytest.mark.parametrize("words", [("Acme",), ("acme", "--max-concurrent", "-1")])
def test_a_mistake_is_found_before_anything_is_sent(
    fed: Fed, plane: FakeControlPlane, words: tuple[str, ...]
) -> None:
    assert fed("tenant", "create", *words).code in (1, 2)
    assert plane.requests == []


def test_the_table(fed: Fed, plane: FakeControlPlane) -> None:
    plane.statuses = lambda _plural, _name: {"keys": ["k1", "k2"], "reason": "all expired"}
    fed("tenant", "create", "acme", *WORDS)
    fed("tenant", "create", "free")
    listed = fed("get", "tenants")
    assert [line.split()[:7] for line in listed.out.splitlines()] == [
        ["NAME", "MODELS", "RESIDENCY", "REQUESTS/MIN", "TOKENS/MIN", "AT-ONCE", "KEYS"],
        ["acme", "llama-*,ocr", "eu-west", "600", "100000", "50", "2"],
        ["free", "all", "anywhere", "-", "-", "-", "2"],
    ]
    assert fed("tenant", "list").out == listed.out
    assert "k1,k2" in fed("get", "tenants", "-o", "wide").out
    assert json.loads(fed("tenant", "list", "-o", "json").out)["kind"] == "TenantList"


def test_a_file_is_applied_described_and_deleted(fed: Fed, plane: FakeControlPlane) -> None:
    file = """
apiVersion: federation/v1
kind: Tenant
metadata: {name: acme}
spec: {models: ["llama-*"], requests_per_minute: 60}
"""
    assert fed("apply", "-f", "-", stdin=file).out == "tenant/acme created\n"
    described = fed("describe", "tenant", "acme").out
    assert "Requests per minute:" in described
    bad = fed("apply", "-f", "-", stdin=file.replace("60", "many"))
    assert (bad.code, "line 5" in bad.err) == (1, True)
    assert fed("delete", "tenant", "acme", "--yes").out == "tenant/acme deleted\n"
    assert plane.objects["tenants"] == {}
