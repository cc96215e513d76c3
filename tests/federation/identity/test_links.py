import stat
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from federation.contract.errors import Invalid, PermissionDenied
from federation.identity.links import open_links

PACK, OTHER = "a" * 64, "b" * 64


def test_a_link_is_good_until_it_ends_and_for_one_pack(tmp_path: Path) -> None:
    links = open_links(tmp_path)
    told = parse_qs(links.query(PACK, 1000))
    expires, signature = told["expires"][0], told["signature"][0]
    links.check(PACK, expires, signature, 999.9)
    open_links(tmp_path).check(PACK, expires, signature, 0)  # the key lasts
    for pack, until, given, now in (
        (PACK, expires, signature, 1000.0),
        (OTHER, expires, signature, 0.0),
        (PACK, "1001", signature, 0.0),
        (PACK, "01000", signature, 0.0),
        (PACK, expires, signature[:-1], 0.0),
        (PACK, expires, "", 0.0),
        (PACK, expires, "é", 0.0),
    ):
        with pytest.raises(PermissionDenied):
            links.check(pack, until, given, now)


def test_the_key_is_secret_and_another_key_knows_no_link(tmp_path: Path) -> None:
    links = open_links(tmp_path)
    path = tmp_path / "links.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in repr(links)
    query = parse_qs(links.query(PACK, 1000))
    path.unlink()
    with pytest.raises(PermissionDenied, match="not valid"):
        open_links(tmp_path).check(PACK, "1000", query["signature"][0], 0)


@pytest.mark.parametrize("text", ["", "abc", "\xff"])
def test_a_broken_key_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "links.key").write_text(text)
    with pytest.raises(Invalid, match=r"links\.key"):
        open_links(tmp_path)
