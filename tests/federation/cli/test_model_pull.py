from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.cli.model_pull import split_version
from federation.contract.errors import Invalid
from tests.federation.cli.conftest import Fed
from tests.federation.cli.test_packages import make_package
from tests.federation.cli.threaded_plane import threaded


@pytest.fixture
def real(fed_alone: Fed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    """`fed` against a real control plane."""
    with threaded(tmp_path / "state") as plane:
        monkeypatch.setenv("FED_ENDPOINT", plane.url)
        monkeypatch.setenv("FED_CA_FILE", str(plane.state_dir / "ca.pem"))
        monkeypatch.setenv("FED_TOKEN_FILE", str(plane.state_dir / "admin.token"))
        yield fed_alone


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_what_was_pushed_is_pulled(real: Fed, tmp_path: Path) -> None:
    package, target = make_package(tmp_path / "package"), tmp_path / "target"
    assert real("model", "push", str(package)).code == 0
    assert real("model", "alias", "filetype", "champion", "1").code == 0
    told = real("model", "pull", "filetype@champion", str(target))
    assert told.code == 0, told.err
    assert told.out.startswith("model/filetype version 1 (digest ")
    assert files(target) == files(package)
    assert list(tmp_path.glob(".*")) == []
    again = real("model", "pull", "filetype", str(target))
    assert again.code == 5
    assert "not empty" in again.err
    assert real("model", "pull", "filetype@2", str(tmp_path / "x")).code == 3
    assert real("model", "verify", "filetype").out.endswith("were checked\n")


def test_versions_are_split() -> None:
    assert split_version("a.b@champion") == ("a.b", "champion")
    assert split_version("a") == ("a", "0")
    with pytest.raises(Invalid):
        split_version("a/b@1")
