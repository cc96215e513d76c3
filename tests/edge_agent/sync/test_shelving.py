"""The documents beside a package."""

from pathlib import Path

import pytest

from edge_agent.sync.layout import Layout, PackageName
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.shelving import order_of, read_order, unshelve
from federation.contract.errors import Invalid
from tests.edge_agent.sync.packages import Package

ONE = Package({"a": b"1"})


def test_documents_are_read_back_and_must_fit_the_name(tmp_path: Path) -> None:
    path = ONE.fetch(Shelf(tmp_path), release=b"release")
    layout = Layout(tmp_path)
    with layout.model("packages", "m") as home:
        order = read_order(home, "m", path.name)
        assert (order.name, order.release_bytes) == (PackageName(*ONE.key), b"release")
        with pytest.raises(Invalid, match="of model 'm'"):
            read_order(home, "n", path.name)
        path.with_name(path.name + ".release").write_bytes(b"x" * (65 << 10))
        with pytest.raises(Invalid, match="longer"):
            read_order(home, "m", path.name)
        unshelve(layout, home, path.name)
        assert home.names() == []
    with pytest.raises(Invalid, match="has digest"):
        order_of(PackageName("m", 1, "0" * 64), ONE.document)


def test_an_invalid_folder_of_the_same_name_never_becomes_valid(tmp_path: Path) -> None:
    final = ONE.folder(tmp_path)
    (final / "torn").mkdir(parents=True)
    shelf = Shelf(tmp_path)
    assert shelf.find(*ONE.key) is None
    assert ONE.is_at(ONE.fetch(shelf))
