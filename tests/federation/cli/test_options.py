import contextlib
import time

import click
import pytest
from click.shell_completion import ShellComplete
from hypothesis import given
from hypothesis import strategies as st

from federation.cli.options import (
    DurationType,
    LabelType,
    ListType,
    NumbersType,
    Target,
    TargetType,
)
from federation.cli.root import fed as fed_group
from federation.contract.resources import KINDS
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_word_for_a_kind_is_understood(kind: object) -> None:
    assert any(k is kind for k in KINDS)
    found = next(k for k in KINDS if k is kind)
    for word in (found.name, found.plural, found.name.upper(), *found.short):
        assert TargetType().convert(word, None, None) == Target(found, "")
        assert TargetType().convert(f"{word}/eu-west", None, None) == Target(found, "eu-west")


def test_a_name_is_given_once() -> None:
    target = TargetType().convert("cluster/a", None, None)
    assert target.required(None) == "a"
    with pytest.raises(click.UsageError, match="two names"):
        target.named("b")
    with pytest.raises(click.UsageError, match="which cluster"):
        TargetType().convert("cluster", None, None).required(None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7d", 604_800), ("250ms", 0.25)],
)
def test_durations(text: str, seconds: float) -> None:
    assert DurationType().convert(text, None, None) == seconds


@given(st.text(max_size=8))
def test_a_duration_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(click.BadParameter):
        assert DurationType().convert(text, None, None) >= 0


def test_labels_lists_and_numbers() -> None:
    assert LabelType().convert("tier=gold=1", None, None) == ("tier", "gold=1")
    assert ListType().convert(" a, b,", None, None) == ("a", "b")
    assert ListType().convert("", None, None) == ()
    assert NumbersType().convert("1, 2", None, None) == (1, 2)
    for kind, bad in ((LabelType(), "tier"), (LabelType(), "=x"), (NumbersType(), "1,x")):
        with pytest.raises(click.BadParameter, match="write"):
            kind.convert(bad, None, None)
    with pytest.raises(click.BadParameter, match="no version numbers"):
        NumbersType().convert("0", None, None)


# ------------------------------------------------------------ completion


def complete(words: list[str], incomplete: str) -> list[str]:
    shell = ShellComplete(fed_group, {}, "fed", "_FED_COMPLETE")
    return [item.value for item in shell.get_completions(words, incomplete)]


def test_commands_and_kinds_are_completed(fed: Fed) -> None:
    assert complete([], "del") == ["delete"]
    assert complete(["get"], "cl") == ["clusters"]
    assert complete(["cluster"], "un") == ["uncordon"]


def test_live_names_are_completed(fed: Fed, plane: FakeControlPlane) -> None:
    for name in ("eu-west", "eu-north", "us-east"):
        plane.put("clusters", name, {"region": name})
    assert complete(["get", "clusters"], "eu") == ["eu-north", "eu-west"]
    assert complete(["describe", "cl"], "us") == ["us-east"]
    assert complete(["cluster", "drain"], "") == ["eu-north", "eu-west", "us-east"]
    assert complete(["get", "models"], "") == []


def test_completion_is_silent_and_quick_when_nobody_answers(
    fed: Fed, plane: FakeControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(["--endpoint", "http://127.0.0.1:9", "get", "clusters"], "") == []
    assert complete(["--endpoint", "nonsense", "get", "clusters"], "") == []
    assert complete(["--token-file", "/absent", "get", "clusters"], "") == []
    plane.silence_s = 20.0
    started = time.perf_counter()
    assert complete(["get", "clusters"], "") == []
    assert time.perf_counter() - started < 5
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
