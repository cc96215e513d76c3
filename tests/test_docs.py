"""What the pages in docs/ show is what the code takes."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from federation.contract.package import ModelPackage, parse_package
from router.policy import table
from router.tablefile import load_written

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", _blocks("model-package.md"))
def test_every_package_shown_is_one(text: str) -> None:
    assert parse_package(text).name


def test_every_key_of_a_package_is_told() -> None:
    text = (DOCS / "model-package.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert told == {field.name for field in fields(ModelPackage)}


def test_the_table_shown_is_one(tmp_path: Path) -> None:
    (text,) = _blocks("router-table.md")
    path = tmp_path / "table.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = table.build(load_written(path))
    assert loaded.resolve("filetype@champion", None).version == 2
