"""One copy, and then the next version, beside rsync, curl, zsync and casync, over loopback.

Input: two versions of a package. Output: a table; wall time and CPU are of the receiving side (and,
of rsync, of its sender too, whose work belongs to the method), as ratios to ours in the same run.
Bytes are what came over the wire: from nginx's log, or from rsync's own statistics. Nothing is
capped. curl knows no versions: it fetches all again. Only ours, and the line with fsync, are on the
disk and not just in the page cache when they say so.
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sync.fanout import free_port
from benchmarks.sync.identities import DOMAIN, Identities
from benchmarks.sync.stock import Version
from federation.contract.spiffe import PeerRole, control_plane_dns_name

GIB, MIB = 1 << 30, 1 << 20
TOOLS = ("rsync", "curl", "zsync", "casync", "desync")
NGINX = """
daemon off; pid {d}/nginx.pid; worker_processes 1;
events {{ }}
http {{
  log_format sent '$bytes_sent'; access_log {d}/access.log sent;
  sendfile on; client_body_temp_path {d}/b; proxy_temp_path {d}/p;
  fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; keepalive_requests 100000;
  server {{ listen 127.0.0.1:{plain}; root {d}/www; }}
  server {{
    listen 127.0.0.1:{tls} ssl; root {d}/www; ssl_protocols TLSv1.3;
    ssl_certificate {d}/server.pem; ssl_certificate_key {d}/server.pem;
  }}
}}
"""


@dataclass(frozen=True)
class Took:
    wall_s: float
    cpu_s: float
    wire: int
    peak_mib: float


@dataclass(frozen=True)
class Ground:
    """Where all tools find the same bytes."""

    folder: Path  # of nginx; www is below
    identities: Identities
    versions: list[Version]
    plain: int
    tls: int

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def sent(self) -> int:
        """Return and forget what nginx sent so far."""
        time.sleep(0.1)
        log = self.folder / "access.log"
        total = sum(int(line) for line in log.read_text().split())
        log.write_text("")
        return total


Fetch = Callable[[Ground, Version], Took]


def compare(folder: Path, identities: Identities, versions: list[Version], runs: int) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx:
        print("rivals: nginx is missing, which serves the bytes; nothing is compared.")
        return
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    rivals: dict[str, Fetch] = {"ours (TLS)": _ours}
    for name, (tool, fetch) in _RIVALS.items():
        if tool not in missing:
            rivals[name] = fetch
    with _serving(nginx, folder, identities, versions) as ground:
        _prepare(ground, missing)
        found: dict[str, list[tuple[Took, Took]]] = {name: [] for name in rivals}
        for _ in range(runs):
            for name, fetch in rivals.items():
                shutil.rmtree(ground.target, ignore_errors=True)
                ground.target.mkdir()
                ground.sent()
                first, second = (fetch(ground, version) for version in versions)
                found[name].append((first, second))
        _print(ground, found, runs)
    if missing:
        print(f"not installed here: {', '.join(missing)}")


# ---------------------------------------------------------------- each tool


def _ours(ground: Ground, version: Version) -> Took:
    config = {
        "credentials": str(ground.identities.of(PeerRole.CLUSTER, "north-0")),
        "state": str(ground.target),
        "origin": f"https://127.0.0.1:{ground.tls}",
        "name": "north-0",
        "listen": f"127.0.0.1:{free_port()}",
        "mbytes_per_s": 0,
    }
    path = ground.folder / "agent.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "benchmarks.sync.agent", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdin
        assert agent.stdout
        agent.stdout.readline()
        agent.stdin.write(json.dumps({"stage": [version.number, version.digest]}) + "\n")
        agent.stdin.flush()
        done = json.loads(agent.stdout.readline())
        agent.stdin.write(json.dumps({"stats": 1}) + "\n")
        agent.stdin.flush()
        stats = json.loads(agent.stdout.readline())
        agent.stdin.close()
    return Took(done["took_s"], done["cpu_s"], ground.sent(), stats["peak_mib"])


def _curl(ground: Ground, version: Version) -> Took:
    host = control_plane_dns_name(DOMAIN)
    command = ["curl", "-sS", "--fail", "--cacert", str(ground.identities.roots)]
    command += ["--resolve", f"{host}:{ground.tls}:127.0.0.1"]
    for entry in version.manifest.files:
        command += ["-o", str(ground.target / entry.path)]
        command += [f"https://{host}:{ground.tls}/files/v{version.number}/{entry.path}"]
    return _timed(ground, [command])


def _curl_and_hash(ground: Ground, version: Version) -> Took:
    fetched = _curl(ground, version)
    paths = [str(ground.target / entry.path) for entry in version.manifest.files]
    hashed = _timed(ground, [[sys.executable, "-m", "benchmarks.sync.hashing", *paths]])
    return Took(
        fetched.wall_s + hashed.wall_s,
        fetched.cpu_s + hashed.cpu_s,
        fetched.wire,
        max(fetched.peak_mib, hashed.peak_mib),
    )


def _rsync(ground: Ground, version: Version) -> Took:
    """Over a pipe, as `rsync -e ssh` would, without the cost of ssh."""
    config = ground.folder / "rsync-pipe"
    config.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    config.chmod(0o755)
    source = f"host:{ground.folder}/www/files/v{version.number}/"
    command = ["rsync", "-a", "--stats", "--no-whole-file", "-I", "-e", str(config), source]
    took = _timed(ground, [[*command, f"{ground.target}/"]], keep=ground.folder / "rsync.out")
    for line in (ground.folder / "rsync.out").read_text().splitlines():
        if line.startswith("Total bytes received:"):
            wire = int("".join(c for c in line if c.isdigit()))
            return Took(took.wall_s, took.cpu_s, wire, took.peak_mib)
    raise SystemExit("rsync told nothing")


def _zsync(ground: Ground, version: Version) -> Took:
    commands = []
    for entry in version.manifest.files:
        url = f"http://127.0.0.1:{ground.plain}/files/v{version.number}/{entry.path}.zsync"
        target = ground.target / entry.path
        commands.append(["zsync", "-q", "-o", str(target), url])
    took = _timed(ground, commands, cwd=ground.target)
    for old in ground.target.glob("*.zs-old"):
        old.unlink()
    return took


def _casync(ground: Ground, version: Version) -> Took:
    base = f"http://127.0.0.1:{ground.plain}/casync"
    target = ground.target / f"v{version.number}"
    command = ["casync", "extract", f"--store={base}/store.castr"]
    if version.number > 1:
        command += [f"--seed={ground.target}/v{version.number - 1}"]
    command += ["--with=unix", f"{base}/v{version.number}.caidx", str(target)]
    return _timed(ground, [command])


_RIVALS: dict[str, tuple[str, Fetch]] = {
    "curl (TLS)": ("curl", _curl),
    "curl + hash + fsync": ("curl", _curl_and_hash),
    "rsync (pipe)": ("rsync", _rsync),
    "zsync (plain HTTP)": ("zsync", _zsync),
    "casync (plain HTTP)": ("casync", _casync),
}


# ---------------------------------------------------------------- around them


def _timed(
    ground: Ground, commands: list[list[str]], *, cwd: Path | None = None, keep: Path | None = None
) -> Took:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command[0]} failed: {done.stderr[-500:]}")
        if keep:
            keep.write_text(done.stdout)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu, ground.sent(), 0.0)


@contextmanager
def _serving(
    nginx: str, folder: Path, identities: Identities, versions: list[Version]
) -> Iterator[Ground]:
    own = identities.of(PeerRole.CONTROL_PLANE, "main")
    pems = sorted(path.read_text() for path in own.iterdir() if path.suffix in (".pem", ".key"))
    if not any("PRIVATE KEY" in pem for pem in pems):
        raise SystemExit(f"no key in {own}: {sorted(path.name for path in own.iterdir())}")
    (folder / "server.pem").write_text("\n".join(pems))
    plain, tls = free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(d=folder, plain=plain, tls=tls))
    (folder / "access.log").touch()
    command = [nginx, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(1.0)
            if process.poll() is not None:
                raise SystemExit(f"nginx: {(folder / 'error.log').read_text()[-500:]}")
            yield Ground(folder, identities, versions, plain, tls)
        finally:
            process.terminate()


def _prepare(ground: Ground, missing: list[str]) -> None:
    """Lay the files out, with what zsync and casync want beside them."""
    www = ground.folder / "www"
    for version in ground.versions:
        target = www / "files" / f"v{version.number}"
        shutil.copytree(version.directory, target)
        if "zsync" not in missing:
            for entry in version.manifest.files:
                made = f"{target / entry.path}.zsync"
                command = ["zsyncmake", "-o", made, "-u", entry.path, str(target / entry.path)]
                subprocess.run(command, check=True, capture_output=True)
        if "casync" not in missing:
            (www / "casync").mkdir(exist_ok=True)
            index = www / "casync" / f"v{version.number}.caidx"
            store = f"--store={www}/casync/store.castr"
            command = ["casync", "make", store, "--with=unix", str(index), str(version.directory)]
            subprocess.run(command, check=True, capture_output=True)


def _print(ground: Ground, found: dict[str, list[tuple[Took, Took]]], runs: int) -> None:
    sizes = [version.size for version in ground.versions]
    changed = _changed(ground)
    print(
        f"one receiver, {sizes[0] / MIB:.0f} MiB, then a version of which {changed:.1%} is new; "
        f"median of {runs}; (x) = times ours"
    )
    print(f"{'':22} {'first copy':>30} {'':8} {'next version':>30}")
    print(
        f"{'':22}" + f"{'wall s':>14}{'CPU s/GiB':>16}{'wire/size':>12}" * 2 + f"{'peak MiB':>10}"
    )
    ours = [_median([pair[step] for pair in found["ours (TLS)"]]) for step in (0, 1)]
    for name, pairs in found.items():
        cells = []
        for step in (0, 1):
            took, base = _median([pair[step] for pair in pairs]), ours[step]
            cpu = took.cpu_s / sizes[step] * GIB
            cells.append(
                f"{took.wall_s:7.2f} ({took.wall_s / base.wall_s:4.2f})"
                f"{cpu:9.2f} ({took.cpu_s / base.cpu_s:4.2f}){took.wire / sizes[step]:12.3f}"
            )
        peak = max(took.peak_mib for pair in pairs for took in pair)
        print(f"{name:22}{''.join(cells)}{f'{peak:10.0f}' if peak else '         -'}")


def _median(took: list[Took]) -> Took:
    def middle(pick: Callable[[Took], float]) -> float:
        return statistics.median(pick(each) for each in took)

    return Took(
        middle(lambda t: t.wall_s),
        middle(lambda t: t.cpu_s),
        int(middle(lambda t: t.wire)),
        middle(lambda t: t.peak_mib),
    )


def _changed(ground: Ground) -> float:
    from benchmarks.sync.stock import EDITED, SHARES

    return sum(SHARES[name] for name in EDITED) / sum(SHARES.values())
