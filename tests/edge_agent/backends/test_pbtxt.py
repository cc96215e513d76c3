import pytest

from edge_agent.backends.pbtxt import quoted, without_fields


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('name: "a"\nbackend: "b"\n', '\nbackend: "b"\n'),
        ('name:"a" backend:"b"', ' backend:"b"'),
        ('backend: "name: x"\n# name: y\nname: "a"', 'backend: "name: x"\n# name: y\n'),
        ('input [ { name: "X" dims: [ 1 ] } ]', 'input [ { name: "X" dims: [ 1 ] } ]'),
        ("version_policy: { latest { num_versions: 1 } } a: 1", " a: 1"),
        ("version_policy { all { } }\na: 1", "\na: 1"),
        (r'name: "with \" quote" a: 1', " a: 1"),
        ("", ""),
        ("name:", ""),
    ],
)
def test_only_the_top_level_fields_go(text: str, left: str) -> None:
    assert without_fields(text, ("name", "version_policy")) == left


def test_quotes_and_backslashes_are_escaped() -> None:
    assert quoted('a"b\\') == '"a\\"b\\\\"'
