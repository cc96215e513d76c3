import timeit
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.access import Access, ApiKey, Tenant
from federation.contract.errors import PermissionDenied, Unauthenticated
from router.policy.access import EVERYONE, AccessTable, Caller, build, missing_key
from tests.router.access_world import KEYS, OLD_KEY, PEPPER, access, api_key, digest, key_text

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TABLE = build(access())


def refused(text: str, table: AccessTable = TABLE, now: datetime = NOW) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        table.authenticate(text, now)
    assert len(text) < 20 or text not in caught.value.sentence()
    return caught.value


@pytest.mark.parametrize("tenant", sorted(KEYS))
def test_a_key_leads_to_its_tenant(tenant: str) -> None:
    assert TABLE.authenticate(KEYS[tenant], NOW).tenant.name == tenant


def test_a_key_ends_when_it_was_said_to() -> None:
    end = datetime(2026, 1, 1, tzinfo=UTC)
    assert TABLE.authenticate(OLD_KEY, end - timedelta(microseconds=1)).tenant.name == "acme"
    error = refused(OLD_KEY, now=end)
    assert error.reason == "expired-key"
    assert "fed key rotate k-old" in error.sentence()


def test_a_wrong_secret_and_an_unknown_key_are_told_alike() -> None:
    wrong, unknown = refused(KEYS["acme"] + "x"), refused(key_text("nobody"))
    assert wrong.reason == unknown.reason == "unknown-key"
    assert wrong.sentence() == unknown.sentence()
    # A wrong secret tells nothing of when the key ends.
    assert refused(OLD_KEY + "x").reason == "unknown-key"


@given(st.text() | st.from_regex(r"fed_(key|user)_[a-z0-9-]*_?.*"))
def test_nothing_but_the_whole_text_is_a_key(text: str) -> None:
    if text not in KEYS.values():
        refused(text)


@given(st.sampled_from(sorted(KEYS.values())), st.data())
def test_a_key_with_one_character_changed_is_none(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda c: c != text[at]))
    refused(text[:at] + other + text[at + 1 :])


def test_long_and_odd_texts_are_refused_without_being_hashed() -> None:
    for text in ("", "fed_key_", "fed_key_a", "fed_key__", "x" * 10_000, "fed_key_a_" + "x" * 9999):
        assert refused(text).reason in ("malformed-key", "unknown-key")
    for odd in ("\udcff", "\ud800"):
        assert refused(f"fed_key_k-acme_{odd}").reason == "unknown-key"


def test_without_keys_the_way_to_one_is_told() -> None:
    for empty in (AccessTable(), build(Access(pepper=PEPPER, tenants=(Tenant(name="t"),)))):
        assert refused(KEYS["acme"], empty).reason == "no-keys"
        assert "fed key create" in missing_key(empty).sentence()
    assert "Authorization: Bearer" in missing_key(TABLE).sentence()


def test_what_could_never_be_valid_is_left_out() -> None:
    key = api_key("k", "acme")
    for pepper in ("", "no hex"):
        assert build(Access(pepper=pepper, tenants=(Tenant(name="acme"),), keys=(key,))).keys == {}
    empty = ApiKey(id="e", tenant="acme", digest="")
    alone = build(Access(pepper=PEPPER, tenants=(Tenant(name="other"),), keys=(key, empty)))
    assert alone.keys == {}
    # A snapshot that says that the digest of everything is empty lets nobody in.
    refused(key_text("e"), build(Access(pepper=PEPPER, keys=(empty, key))))


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        ((), "anything", True),
        (("llama-*",), "llama-3", True),
        (("llama-*",), "Llama-3", False),
        (("llama-*",), "my-llama-3", False),
        (("llama-*", "ocr"), "ocr", True),
        (("ocr",), "ocr2", False),
        (("ocr?",), "ocr2", True),
        (("ocr",), "ocr\n", False),
        (("a.c",), "abc", False),
    ],
)
def test_patterns_of_models(patterns: tuple[str, ...], model: str, allowed: bool) -> None:
    caller = Caller(Tenant(name="t", models=patterns))
    assert caller.may_use(model) is allowed
    if allowed:
        caller.check_model(f"{model}@2")
        return
    with pytest.raises(PermissionDenied) as caught:
        caller.check_model(f"{model}@best")
    assert caught.value.reason == "model-not-allowed"
    assert patterns[0] in caught.value.sentence()


def test_everyone_may_use_everything_everywhere() -> None:
    assert EVERYONE.may_use("x")
    assert EVERYONE.regions == frozenset()


def test_no_secret_is_in_a_repr() -> None:
    shown = [repr(TABLE), repr(access()), repr(TABLE.authenticate(KEYS["euro"], NOW))]
    shown += [repr(key) for key in TABLE.keys.values()]
    for text in (KEYS["euro"], digest(KEYS["euro"]), PEPPER):
        assert all(text not in each for each in shown)


def test_a_key_among_two_hundred_costs_little(capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(api_key(f"key-{i}", "acme", NOW + timedelta(days=1)) for i in range(200))
    table, text = build(access(*many)), key_text("key-123")
    runs = timeit.repeat(lambda: table.authenticate(text, NOW), number=1000, repeat=7)
    best_us = min(runs) * 1000
    with capsys.disabled():
        print(f" [authenticate among {len(table.keys)} keys: {best_us:.1f} µs]", end="")
    assert best_us < 30
