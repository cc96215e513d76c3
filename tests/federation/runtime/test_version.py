"""The version is that of the installed package."""

from importlib.metadata import version
from pathlib import Path

from federation.runtime.version import software_version, version_in


def test_it_is_what_the_installer_says() -> None:
    assert software_version() == version("inference-federation")


def test_the_first_folder_that_has_it_counts(tmp_path: Path) -> None:
    for folder, name in (("b", "inference_federation-2.0.dist-info"), ("a", "other-1.dist-info")):
        (tmp_path / folder / name).mkdir(parents=True)
    folders = [str(tmp_path / name) for name in ("missing", "a", "b")]
    assert version_in(folders) == "2.0"
    assert version_in(folders[:2]) == "unknown"
