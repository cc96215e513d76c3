"""`fed model push --delta-from` against a real control plane: what travels, and what comes back."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.cli.push_delta import old_name
from federation.contract.errors import Invalid
from tests.federation.cli import tuned
from tests.federation.cli.conftest import Fed
from tests.federation.cli.threaded_plane import Threaded, threaded

BASE = tuned.weights()
SIZE = BASE.size * 2


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Threaded]:
    with threaded(tmp_path / "state") as plane:
        yield plane


@pytest.fixture
def fed(fed_alone: Fed, plane: Threaded) -> Fed:
    assert fed_alone("login", plane.url, "--state-dir", str(plane.state_dir)).code == 0
    return fed_alone


def push(fed: Fed, folder: Path, *words: str) -> dict[str, Any]:
    told = fed("model", "push", str(folder), *words, "-o", "json")
    assert told.code == 0, told.err
    answer: dict[str, Any] = json.loads(told.out)
    return answer


def same(one: Path, other: Path) -> bool:
    names = sorted(p.name for p in one.iterdir())
    return names == sorted(p.name for p in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def test_a_fine_tune_travels_as_a_difference_and_comes_back_whole(fed: Fed, tmp_path: Path) -> None:
    first = tuned.write(tmp_path / "1", BASE)
    second = tuned.write(tmp_path / "2", tuned.tuned(BASE, 2))
    third = tuned.write(tmp_path / "3", tuned.tuned(BASE, 3))
    whole = push(fed, first)
    assert whole["differences"] == 0
    assert whole["sentBytes"] > 0.6 * SIZE
    told = fed("model", "push", str(second), "--delta-from", "1", "--dry-run").out
    assert re.search(r"would send 8\d\d\.\d kB .*\n8\d\d\.\d kB of them can be compared", told)

    delta = push(fed, second, "--delta-from", "1")
    assert delta["differences"] >= tuned.TENSORS
    assert delta["sentBytes"] < 0.3 * whole["sentBytes"]
    assert fed("model", "pull", "filetype@2", str(tmp_path / "pulled2")).code == 0
    assert same(second, tmp_path / "pulled2")

    # The second version's chunks are differences: the third one's lean on the first one's too.
    assert fed("model", "alias", "filetype", "champion", "2").code == 0
    done = fed("model", "push", str(third), "--delta-from", "@champion", "--delta-dir", str(second))
    assert done.code == 0, done.err
    assert re.search(r"\d of \d chunks were sent as differences; 5\d\d\.\d kB were f", done.err)
    assert fed("model", "pull", "filetype@3", str(tmp_path / "pulled3")).code == 0
    assert same(third, tmp_path / "pulled3")
    for version in (1, 2, 3):
        assert "is whole" in fed("model", "verify", f"filetype@{version}").out


def test_the_old_files_may_be_here_and_another_models(fed: Fed, tmp_path: Path) -> None:
    first = tuned.write(tmp_path / "1", BASE)
    push(fed, first)
    second = tuned.write(tmp_path / "2", tuned.tuned(BASE, 2))
    words = ("--name", "other", "--delta-from", "filetype@1", "--delta-dir", str(first))
    told = fed("model", "push", str(second), *words)
    assert told.code == 0, told.err
    assert "chunks were sent as differences\n" in told.err  # nothing was fetched
    assert fed("model", "pull", "other", str(tmp_path / "pulled")).code == 0
    pulled = (tmp_path / "pulled" / "weights.safetensors").read_bytes()
    assert pulled == (second / "weights.safetensors").read_bytes()


def test_what_is_another_model_altogether_travels_whole(fed: Fed, tmp_path: Path) -> None:
    push(fed, tuned.write(tmp_path / "1", BASE))
    other = push(fed, tuned.write(tmp_path / "2", tuned.weights(seed=9)), "--delta-from", "1")
    assert other["differences"] == 0
    assert other["sentBytes"] > 0.6 * SIZE


def test_differences_are_made_of_what_the_store_has_got(
    fed: Fed, plane: Threaded, tmp_path: Path
) -> None:
    push(fed, tuned.write(tmp_path / "1", BASE))
    for pack in (plane.state_dir / "artifacts" / "packs").iterdir():
        if "." not in pack.name:
            pack.chmod(0o600)
            pack.write_bytes(bytes(pack.stat().st_size))
    second = tuned.write(tmp_path / "2", tuned.tuned(BASE, 2))
    answer = push(fed, second, "--delta-from", "1")
    assert answer["differences"] == 0  # all that it could lean on is damaged


def test_what_does_not_fit_together_is_told(fed: Fed, tmp_path: Path) -> None:
    folder = str(tuned.write(tmp_path / "1", BASE))
    push(fed, Path(folder))
    for words, code in (
        (("--delta-dir", folder), 2),
        (("--delta-from", "1", "--no-compress"), 2),
        (("--delta-from", "7"), 3),
        (("--delta-from", "nothing@1"), 3),
        (("--delta-from", "a/b@1"), 1),
    ):
        assert fed("model", "push", folder, *words).code == code, words


def test_names_of_old_versions() -> None:
    assert old_name("3", "m") == ("m", "3")
    assert old_name("champion", "m") == ("m", "champion")
    assert old_name("@champion", "m") == ("m", "champion")
    assert old_name("other@7", "m") == ("other", "7")
    with pytest.raises(Invalid):
        old_name("a/b@7", "m")
