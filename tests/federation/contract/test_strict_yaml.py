"""Lines, unknown keys at any depth, several documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from federation.contract.errors import Invalid
from federation.contract.strict_yaml import Document, load_document, load_documents


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def test_converts_and_keeps_free_form_mappings() -> None:
    document = load_document("name: a\nlabels: {any: thing}\nmany: [{size: 1}]\n", source="x")
    assert document.convert(Outer) == Outer("a", None, (Inner(1),), {"any": "thing"})


def test_unknown_key_inside_an_optional_and_inside_a_list() -> None:
    with pytest.raises(Invalid, match="x line 3: unknown key 'sise'"):
        load_document("name: a\ninner:\n  sise: 1\n", source="x").convert(Outer)
    with pytest.raises(Invalid, match="x line 4: unknown key 'sise'"):
        load_document("name: a\nmany:\n- size: 1\n- sise: 1\n", source="x").convert(Outer)


def test_wrong_type_names_the_line_and_the_key() -> None:
    with pytest.raises(Invalid, match=r"x line 4: many.1.size: Expected `int`, got `str`"):
        load_document("name: a\nmany:\n- size: 1\n- size: big\n", source="x").convert(Outer)


def test_a_missing_key_names_its_parent() -> None:
    with pytest.raises(Invalid, match=r"x line 2: inner: .*missing required field `size`"):
        load_document("name: a\ninner: {}\n", source="x").convert(Outer)


def test_part_of_a_document() -> None:
    document = load_document("spec:\n  size: 3\n", source="x")
    assert document.convert(Inner, ("spec",)) == Inner(3)
    with pytest.raises(Invalid, match=r"x line 2: spec\.size"):
        load_document("spec:\n  size: z\n", source="x").convert(Inner, ("spec",))


def test_several_documents_know_their_own_lines() -> None:
    first, second = load_documents("name: a\n---\nname: b\nbad: 1\n", source="x")
    assert first.convert(Outer) == Outer("a")
    with pytest.raises(Invalid, match="x line 4: unknown key 'bad'"):
        second.convert(Outer)


def test_empty_documents_are_skipped() -> None:
    assert load_documents("---\n---\n", source="x") == []


def test_no_python_objects_from_yaml() -> None:
    with pytest.raises(
        Invalid, match="x line 1: not valid YAML: could not determine a constructor"
    ):
        load_document("a: !!python/object/apply:os.system [id]\n", source="x")


def test_a_document_of_a_machine_is_refused_without_line_numbers() -> None:
    document = Document({"nmae": "x"}, {}, "the body")
    with pytest.raises(Invalid, match=r"^the body: unknown key 'nmae'"):
        document.convert(Outer)
    wrong = Document({"name": 7}, {}, "the body")
    with pytest.raises(Invalid, match=r"^the body: name: "):
        wrong.convert(Outer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 50_000, "x line 1: not valid YAML: it is nested too deeply"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 90)), "nested too deeply"),
        ("a: &a [*a]\n", "x: the document holds itself"),
        ("? [a, b]\n: c\n", "x line 1: a key must be a plain word"),
        ("? {a: b}\n: c\n", "x line 1: a key must be a plain word"),
        ("a: 2001-99-99\n", "x line 1: a value does not fit its YAML type. Put dates"),
        ("a: !!timestamp x\n", "a value does not fit"),
        ("a: !!bool x\n", "a value does not fit"),
        ("a: !!int x\n", "a value does not fit"),
        ("a: " + "9" * 5000 + "\n", "a value does not fit"),
        (
            "".join(f"a{n}: &a{n} [" + f"*a{n - 1}, " * 9 + "]\n" for n in range(1, 12)).replace(
                "*a0", "x"
            ),
            "x: the document has more than 50000 values",
        ),
    ],
)
def test_what_breaks_readers_of_yaml_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_document(text, source="x")
    assert words in caught.value.sentence()


def test_an_alias_is_what_it_stands_for() -> None:
    assert load_document("a: &a [1]\nb: *a\n", source="x").value == {"a": [1], "b": [1]}
