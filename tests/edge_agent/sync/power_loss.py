"""A file system that forgets: what strace saw is replayed, and only what was fsynced survives.

It is the worst that POSIX allows, except that a rename may have survived as well (`adversarial`).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

_JOINED = re.compile(r"(\d+)\s+(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*?)>)?")
_FD = re.compile(r"^-?\w+<(.*)>$")


@dataclass(eq=False)
class Node:
    """A file or a folder, as it is in memory and as it is on the platter."""

    is_folder: bool
    now: dict[str, "Node"] = field(default_factory=dict)
    kept: dict[str, "Node"] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    kept_data: bytes = b""

    def sync(self) -> None:
        self.kept, self.kept_data = dict(self.now), bytes(self.data)


@dataclass(frozen=True)
class Call:
    """A system call that succeeded."""

    name: str
    args: tuple[str, ...]
    result: int
    path: Path  # of the descriptor that it returned, if it did


def calls(log: str) -> list[Call]:
    """Return the successful calls in the order in which they ended."""
    waiting: dict[str, str] = {}
    found = []
    for line in log.splitlines():
        pid, _, rest = line.partition(" ")
        if rest.rstrip().endswith("<unfinished ...>"):
            waiting[pid] = line.replace("<unfinished ...>", "")
            continue
        if "resumed>" in rest:
            line = waiting.pop(pid) + rest.partition("resumed>")[2]
        if (match := _JOINED.match(line)) and int(match[4]) >= 0:
            args = tuple(match[3].split(", "))
            path = Path(text(f'"{match[5] or ""}"'))
            found.append(Call(match[2], args, int(match[4]), path))
    return found


def raw(arg: str) -> bytes:
    """Return the bytes of a string that strace printed in hexadecimal."""
    return bytes.fromhex(arg.strip('"').replace("\\x", ""))


def text(arg: str) -> str:
    """Return a string that strace printed in hexadecimal."""
    return raw(arg).decode()


def path_of(arg: str) -> Path:
    """Return the path of a descriptor."""
    match = _FD.match(arg)
    return Path(text(f'"{match[1]}"')) if match else Path()


class Disk:
    """Replays calls on what lies below `root` when it is made; that is taken as durable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inodes: dict[int, Node] = {}
        self.top = self._load(root)

    def node(self, path: Path) -> Node | None:
        """Return what has this path now, None if nothing below the root has it."""
        if not path.is_relative_to(self.root):
            return None
        node: Node | None = self.top
        for part in path.relative_to(self.root).parts:
            node = node.now.get(part) if node else None
        return node

    def play(self, call: Call) -> None:
        """Do what a call did."""
        if call.name in ("openat", "mkdirat"):
            self._make(call)
        elif call.name in ("linkat", "renameat", "unlinkat"):
            self._name(call)
        elif (node := self.node(path_of(call.args[0]))) is not None:
            self._change(node, call)

    def _make(self, call: Call) -> None:
        if call.name == "openat" and "O_CREAT" not in call.args[2]:
            return
        made = call.path if call.name == "openat" else path_of(call.args[0]) / text(call.args[1])
        if (parent := self.node(made.parent)) is not None:
            parent.now.setdefault(made.name, Node(is_folder=call.name == "mkdirat"))

    def _change(self, node: Node, call: Call) -> None:
        args = call.args
        match call.name:
            case "fsync" | "fdatasync":
                node.sync()
            case "pwrite64":
                self._write(node, int(args[3]), raw(args[1])[: call.result])
            case "write":
                self._write(node, len(node.data), raw(args[1])[: call.result])
            case "copy_file_range":
                target = self.node(path_of(args[2]))
                assert target is not None
                start, at = int(args[1].strip("[]")), int(args[3].strip("[]"))
                self._write(target, at, bytes(node.data[start : start + call.result]))
            case "ftruncate":
                del node.data[int(args[1]) :]
                node.data.extend(bytes(int(args[1]) - len(node.data)))
            case "fallocate":
                node.data.extend(bytes(max(0, int(args[2]) + int(args[3]) - len(node.data))))
            case _:
                pass

    def materialise(self, target: Path, *, adversarial: tuple[Path, Node] | None = None) -> None:
        """Write what survives to a real folder; `adversarial` is a name that survived too."""
        self._save(self.top, target)
        if adversarial:
            path, node = adversarial
            place = target / path.relative_to(self.root)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                self._save(node, place)

    def _write(self, node: Node, at: int, data: bytes) -> None:
        node.data.extend(bytes(max(0, at - len(node.data))))
        node.data[at : at + len(data)] = data

    def _name(self, call: Call) -> None:
        folder, name = self.node(path_of(call.args[0])), text(call.args[1])
        if call.name == "unlinkat":
            if folder is not None:
                folder.now.pop(name, None)
            return
        target, new = self.node(path_of(call.args[2])), text(call.args[3])
        assert folder is not None
        assert target is not None
        node = folder.now[name] if call.name == "linkat" else folder.now.pop(name)
        target.now[new] = node

    def _load(self, path: Path) -> Node:
        about = path.lstat()
        if (known := self._inodes.get(about.st_ino)) is not None:
            return known
        node = self._inodes[about.st_ino] = Node(is_folder=path.is_dir())
        if node.is_folder:
            node.now = {child.name: self._load(child) for child in path.iterdir()}
        else:
            node.data = bytearray(path.read_bytes())
        node.sync()
        return node

    def _save(self, node: Node, path: Path) -> None:
        if node.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            for name, child in node.kept.items():
                self._save(child, path / name)
        else:
            path.write_bytes(node.kept_data)
