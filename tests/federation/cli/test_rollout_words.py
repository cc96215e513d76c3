import click
import pytest

from federation.cli.rollout_words import (
    GatesType,
    RatioType,
    ShareType,
    StepsType,
    WavesType,
    gated,
    waves_text,
)
from federation.contract.rollout import Wave


def read(kind: click.ParamType[object], text: str) -> object:
    return kind.convert(text, None, None)


def test_waves_are_read_and_written() -> None:
    text = "eu-west; us-east,us-west; cluster/lab-1,tier=gold; *"
    waves = read(WavesType(), text)
    assert waves == (
        Wave(regions=("eu-west",)),
        Wave(regions=("us-east", "us-west")),
        Wave(clusters=("lab-1",), cluster_labels={"tier": "gold"}),
        Wave(regions=("*",)),
    )
    assert isinstance(waves, tuple)
    assert waves_text(waves) == text
    assert read(WavesType(), waves_text(waves)) == waves
    assert read(WavesType(), "eu;") == (Wave(regions=("eu",)),)
    assert WavesType().convert(waves, None, None) is waves


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wave 1 of '' is empty"),
        ("eu;;us", "wave 2 of 'eu;;us' is empty"),
        ("eu west", "put ',' between regions, ';' between waves"),
        ("region/eu", "neither a region nor cluster/NAME"),
        ("cluster/", "neither a region nor cluster/NAME"),
        ("=gold", "no label; write KEY=VALUE"),
    ],
)
def test_waves_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words.replace("(", r"\(")):
        read(WavesType(), text)


def test_steps() -> None:
    assert read(StepsType(), "5, 25%,100") == (5.0, 25.0, 100.0)
    with pytest.raises(click.BadParameter, match="write 5,25,100"):
        read(StepsType(), "5;25")


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("0.01", 0.01)])
def test_shares(text: str, share: float) -> None:
    assert read(ShareType(), text) == pytest.approx(share)


def test_a_share_above_one_was_meant_in_percent() -> None:
    with pytest.raises(click.BadParameter, match="Did you mean 5%"):
        read(ShareType(), "5")
    for text in ("-1%", "200%", "much"):
        with pytest.raises(click.BadParameter):
            read(ShareType(), text)


@pytest.mark.parametrize(("text", "ratio"), [("1.2", 1.2), ("1.2x", 1.2), ("+20%", 1.2), ("1", 1)])
def test_ratios(text: str, ratio: float) -> None:
    assert read(RatioType(), text) == pytest.approx(ratio)


def test_a_ratio_below_one_is_refused() -> None:
    with pytest.raises(click.BadParameter, match=r"Did you mean 1\.2"):
        read(RatioType(), "0.2")
    for text in ("inf", "fast", "-20%"):
        with pytest.raises(click.BadParameter):
            read(RatioType(), text)


def test_gates_count_from_one() -> None:
    waves = (Wave(regions=("eu",)), Wave(regions=("us",)))
    assert [w.approval for w in gated(waves, (2,))] == [False, True]
    assert gated((), (1,)) == (Wave(regions=("*",), approval=True),)
    assert read(GatesType(), "1,2") == (1, 2)
    with pytest.raises(click.UsageError, match="there are only 2 waves"):
        gated(waves, (3,))
