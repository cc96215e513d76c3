"""YAML documents read strictly: an unknown key is an error with its line and a suggestion.

Input: text that a user wrote (model.yaml, resources for `fed apply`, settings). Output:
dataclasses, or Invalid. PyYAML's safe loader parses, msgspec converts; lines come from PyYAML's
node marks.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean

Path = tuple[str | int, ...]
MAX_NODES = 50_000
MAX_DEPTH = 64


class Document:
    """One YAML document: its plain values, and the line of each of them."""

    def __init__(self, value: Any, lines: dict[Path, int], source: str) -> None:
        self.value = value
        self.source = source
        self._lines = lines

    def __repr__(self) -> str:
        return f"Document({self.source}, {len(self._lines)} nodes)"

    def line(self, path: Path) -> int:
        """Return the line (from 1) of the value at `path`, or of its nearest parent."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _place(self, path: Path) -> str:
        """Say where the value at `path` stands; a document without lines is one of a machine."""
        return f"{self.source} line {self.line(path)}" if self._lines else self.source

    def convert(self, target: type, at: Path = ()) -> Any:
        """Convert the value below `at` to `target`; raises Invalid with line, key and remedy."""
        value = self.value
        for step in at:
            value = value[step]
        self._refuse(value, target, at)
        try:
            return msgspec.convert(value, target, strict=True)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `$")
            path = at + _parse_path(where.rstrip("`"))
            name = ".".join(str(p) for p in path)
            raise Invalid(f"{self._place(path)}: {name}: {message}.") from None

    def refuse_unknown_keys(self, target: type) -> None:
        """Raise Invalid, with line and suggestion, if a key is not a field of the dataclass."""
        self._refuse(self.value, target, ())

    def _refuse(self, value: Any, target: Any, at: Path) -> None:
        target = _strip_optional(target)
        origin, arguments = get_origin(target), get_args(target)
        if is_dataclass(target) and isinstance(value, Mapping):
            hints = get_type_hints(target)
            known = [f.name for f in fields(target)]
            for key, child in value.items():
                if key not in known:
                    raise Invalid(
                        f"{self._place((*at, key))}: unknown key {key!r}.",
                        hint=did_you_mean(str(key), known),
                    )
                self._refuse(child, hints[key], (*at, key))
        elif origin in (tuple, list) and isinstance(value, list) and arguments:
            for index, child in enumerate(value):
                self._refuse(child, arguments[0], (*at, index))
        elif origin in (Mapping, dict) and isinstance(value, Mapping) and len(arguments) == 2:
            for key, child in value.items():
                self._refuse(child, arguments[1], (*at, key))


def load_document(text: str, *, source: str) -> Document:
    """Parse text that holds exactly one YAML mapping; raises Invalid."""
    documents = load_documents(text, source=source)
    if len(documents) != 1:
        raise Invalid(f"{source}: expected one YAML document, found {len(documents)}.")
    return documents[0]


def load_documents(text: str, *, source: str) -> list[Document]:
    """Parse text that holds YAML mappings separated by `---`; raises Invalid with the line."""
    try:
        return list(_documents(text, source))
    except RecursionError:  # an alias inside of what it stands for
        raise Invalid(f"{source}: the document holds itself.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Invalid(f"{source}{where}: not valid YAML: {problem}.") from None


_Parser: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # C: 8 times faster


class _Loader(yaml.composer.Composer, _Parser):  # type: ignore[misc]
    """Counts how deep it is: beyond some depth PyYAML gets very slow, and then breaks.

    Its composer is PyYAML's in Python, above libyaml's reader: the one in C cannot be told a depth.
    """

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        yaml.composer.Composer.__init__(self)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what begins here."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            place = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", place)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _documents(text: str, source: str) -> Iterator[Document]:
    for node in yaml.compose_all(text, Loader=_Loader):
        if isinstance(node, yaml.ScalarNode) and not node.value:
            continue  # nothing between two `---`
        lines: dict[Path, int] = {}
        _collect_lines(node, (), lines, source)
        value = _construct(node, source)
        if not isinstance(value, dict):
            raise Invalid(f"{source} line {node.start_mark.line + 1}: expected a mapping of keys.")
        yield Document(value, lines, source)


def _construct(node: yaml.Node, source: str) -> Any:
    """Return a document's plain values; PyYAML lets the errors of its converters through."""
    try:
        return yaml.SafeLoader("").construct_document(node)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        where = f"{source} line {node.start_mark.line + 1}"
        raise Invalid(
            f"{where}: a value does not fit its YAML type.",
            hint="Put dates, numbers and the like in quotes if they are meant as text.",
        ) from None


def _collect_lines(node: yaml.Node, path: Path, lines: dict[Path, int], source: str) -> None:
    if len(lines) >= MAX_NODES:  # an alias counts as often as it is used
        raise Invalid(f"{source}: the document has more than {MAX_NODES} values.")
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                where = f"{source} line {key_node.start_mark.line + 1}"
                raise Invalid(f"{where}: a key must be a plain word.")
            if key in seen:
                raise Invalid(f"{source} line {key_node.start_mark.line + 1}: key {key!r} twice.")
            seen.add(key)
            _collect_lines(value_node, (*path, key), lines, source)
            lines[(*path, key)] = key_node.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _collect_lines(child, (*path, index), lines, source)


def _strip_optional(target: Any) -> Any:
    if get_origin(target) in (Union, types.UnionType):
        rest = [a for a in get_args(target) if a is not type(None)]
        return rest[0] if len(rest) == 1 else target
    return target


def _parse_path(text: str) -> Path:
    """Turn msgspec's `.inputs[0].shape` into ("inputs", 0, "shape")."""
    path: list[str | int] = []
    for part in text.replace("[...]", "").replace("[", ".[").split("."):
        if part.startswith("["):
            inner = part.strip("[]")
            path.append(int(inner) if inner.isdigit() else inner)
        elif part:
            path.append(part)
    return tuple(path)
