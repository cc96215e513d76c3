"""What packages occupy."""

from pathlib import Path

from edge_agent.sync.layout import Layout, PackageName
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.usage import disk_of, on_disk, orders, published
from tests.edge_agent.sync.packages import Package

ONE = Package({"a": b"1" * 100_000}, version=1)
TWO = Package({"a": b"1" * 100_000, "b": b"2" * 50_000}, version=2)


def test_shared_files_count_once(tmp_path: Path) -> None:
    shelf, layout = Shelf(tmp_path), Layout(tmp_path)
    ONE.fetch(shelf)
    one = disk_of(layout, 0).used_bytes
    assert one >= 100_000
    TWO.fetch(shelf)
    both = disk_of(layout, 5)
    assert 50_000 <= both.used_bytes - one < 90_000
    assert both.budget_bytes == 5
    assert both.free_bytes > 0
    first, second = (on_disk(layout, order) for order in orders(layout))
    assert (first.version, second.version) == (1, 2)
    assert not first.ever_used
    shared = [i for i in first.inodes if i.links == 2]
    assert [i.number for i in shared] == [i.number for i in second.inodes if i.links == 2]
    assert shared[0].used_bytes >= 100_000
    shelf.touch(*TWO.key)
    assert [on_disk(layout, order).ever_used for order in orders(layout)] == [False, True]


def test_only_a_package_with_its_manifest_counts(tmp_path: Path) -> None:
    layout, name = Layout(tmp_path), PackageName(*ONE.key)
    assert published(layout, name) is None
    path = ONE.fetch(Shelf(tmp_path))
    assert published(layout, name) is not None
    assert published(layout, PackageName("m", 1, ONE.digest[:16] + "0" * 48)) is None
    manifest = path.with_name(path.name + ".manifest")
    for data in (b"", ONE.document + b" ", TWO.document):
        manifest.write_bytes(data)
        assert published(layout, name) is None
        assert list(orders(layout)) == []
    manifest.unlink()
    assert published(layout, name) is None
