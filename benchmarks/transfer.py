"""One agent's fetch of 1 GiB over loopback, against `curl` and then hashing the same bytes.

Input: nothing (BENCH_MIB, BENCH_RUNS change size and repetitions). Output: a table of wall time,
CPU seconds of the client for each GiB, and its peak memory. The server is nginx, plain and with
TLS 1.3; everything lies in /dev/shm. `b3sum` is not used: its part is taken by the package blake3
in one Python process, with one thread, over an mmap of what curl wrote.

Run by `python -m benchmarks.transfer`.
"""

import asyncio
import contextlib
import json
import mmap
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from edge_agent.sync.offers import Offer, WantedChunk
from edge_agent.sync.throttle import Throttle
from edge_agent.sync.transfer import Transfers
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import Chunk, chunks_of, pack_chunks
from federation.contract.spiffe import PeerId, PeerRole, control_plane_dns_name
from federation.contract.sync import SyncSpec
from federation.contract.types import FileEntry, Manifest, Urgency
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, signing_request

if TYPE_CHECKING:
    from federation.identity.authority import Authority

MIB = 1 << 20
SIZE = int(os.environ.get("BENCH_MIB", "1024")) * MIB
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
PACK, CHUNK = 64 * MIB, 1 * MIB
DOMAIN = "bench.test"

NGINX = """
daemon off; pid {d}/nginx.pid; error_log {d}/error.log; worker_processes 1;
events {{ }}
http {{
  access_log off; sendfile on; client_body_temp_path {d}/b; proxy_temp_path {d}/p;
  fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; keepalive_requests 100000;
  server {{ listen 127.0.0.1:{plain}; root {d}/www; }}
  server {{
    listen 127.0.0.1:{tls} ssl; root {d}/www; ssl_protocols TLSv1.3;
    ssl_certificate {d}/server.pem; ssl_certificate_key {d}/server.pem;
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_packs(folder: Path) -> None:
    folder.mkdir()
    for number in range(0, SIZE, PACK):
        (folder / f"pack-{number // PACK}").write_bytes(os.urandom(min(PACK, SIZE - number)))


def describe(folder: Path, url: str) -> tuple[Manifest, Locations]:
    """Return a package of one file that is all packs, in chunks of 1 MiB."""
    chunks, places, packs = [], [], []
    for number in range(-(-SIZE // PACK)):
        data = (folder / f"pack-{number}").read_bytes()
        packs.append(PackSource(id=f"{number}", url=f"{url}/pack-{number}"))
        for offset in range(0, len(data), CHUNK):
            part = data[offset : offset + CHUNK]
            chunks.append(Chunk(blake3(part).digest(), len(part)))
            places.append(Place(number, offset, len(part)))
    entry = FileEntry(
        path="weights", size=SIZE, blake3="0" * 64, sha256="0" * 64, chunks=pack_chunks(chunks)
    )
    locations = Locations(packs=tuple(packs), places=pack_places(places))
    return Manifest(model="bench", files=(entry,)), locations


@contextlib.contextmanager
def nginx(folder: Path, authority: "Authority") -> Iterator[tuple[int, int]]:
    key = new_key()
    id = PeerId(DOMAIN, PeerRole.CONTROL_PLANE, "main")
    issued = authority.issue(signing_request(key), id, generation=1, hosts=("127.0.0.1",))
    (folder / "server.pem").write_text(f"{key}\n{issued.pem}\n")
    plain, tls = free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(d=folder, plain=plain, tls=tls))
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(folder), "-c", "nginx.conf"]
    with subprocess.Popen(
        [*command, "-e", str(folder / "error.log")], stderr=subprocess.DEVNULL
    ) as process:
        try:
            for port in (plain, tls):
                wait_for(port)
            yield plain, tls
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("nginx did not start")


def run_child(command: list[str]) -> dict[str, float]:
    """Run a process; return its wall and CPU seconds, its peak memory, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return {"wall": wall, "cpu": cpu, **told}


def own_rss_mib() -> float:
    """Peak memory of this process. ru_maxrss would begin with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# ---------------------------------------------------------------- children


async def fetch_child(url: str, www: Path, state: Path) -> None:
    """Fetch everything as an agent does; print wall seconds without the start, and memory."""
    manifest, locations = describe_cached(state, url)
    credentials = Credentials(state / "agent")

    async def load() -> Locations:
        return locations

    offer = Offer(manifest, locations, load)
    transfers = Transfers(credentials, Throttle(SyncSpec()), url=url)
    chunks = list(chunks_of(manifest.files[0]))
    wanted = [WantedChunk(n, chunk.digest, chunk.length) for n, chunk in enumerate(chunks)]
    target = os.open(www / "fetched", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    os.posix_fallocate(target, 0, SIZE)
    base = own_rss_mib()

    def put(number: int, data: memoryview) -> None:
        os.pwrite(target, data, number * CHUNK)

    cpu, started = time.process_time(), time.monotonic()
    await transfers.from_origin(wanted, offer, put, Urgency.NORMAL)
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    await transfers.close()
    os.close(target)
    told = {"inner_wall": wall, "inner_cpu": cpu, "rss": own_rss_mib(), "base_rss": base}
    print(json.dumps(told))


def describe_cached(state: Path, url: str) -> tuple[Manifest, Locations]:
    chunks = (state / "chunks").read_bytes()
    entry = FileEntry(path="weights", size=SIZE, blake3="", sha256="", chunks=chunks)
    places = (state / "places").read_bytes()
    packs = tuple(PackSource(id=f"{n}", url=f"{url}/pack-{n}") for n in range(-(-SIZE // PACK)))
    return Manifest(model="bench", files=(entry,)), Locations(packs=packs, places=places)


def hash_child(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        blake3(view).hexdigest()
    print(json.dumps({"rss": own_rss_mib()}))


# ---------------------------------------------------------------- the table


def compare(folder: Path, port: int, scheme: str) -> None:
    state = folder / "state"
    name = control_plane_dns_name(DOMAIN)
    url = f"{scheme}://127.0.0.1:{port}"
    curl = ["curl", "-sS", "--cacert", str(state / "roots.pem"), "-o", str(folder / "got")]
    if scheme == "https":
        curl += ["--resolve", f"{name}:{port}:127.0.0.1"]
    this = [sys.executable, "-m", "benchmarks.transfer"]
    rows: dict[str, list[dict[str, float]]] = {"curl": [], "hash": [], "ours": []}
    for _ in range(RUNS):
        host = name if scheme == "https" else "127.0.0.1"
        rows["curl"].append(run_child([*curl, f"{scheme}://{host}:{port}/whole"]))
        rows["hash"].append(run_child([*this, "hash", str(folder / "got")]))
        (folder / "got").unlink()
        rows["ours"].append(run_child([*this, "fetch", url, str(folder), str(state)]))
        (folder / "fetched").unlink()
    gib = SIZE / (1 << 30)
    both = statistics.median(
        c["wall"] + h["wall"] for c, h in zip(rows["curl"], rows["hash"], strict=True)
    )
    both_cpu = statistics.median(
        c["cpu"] + h["cpu"] for c, h in zip(rows["curl"], rows["hash"], strict=True)
    )
    ours = {key: statistics.median(r[key] for r in rows["ours"]) for key in rows["ours"][0]}
    print(f"{scheme:6} curl + hash {both:6.2f} s {both_cpu / gib:5.2f} CPU s/GiB")
    print(
        f"{scheme:6} fetch       {ours['wall']:6.2f} s {ours['cpu'] / gib:5.2f} CPU s/GiB "
        f"(of these {ours['inner_wall']:.2f} s and {ours['inner_cpu'] / gib:.2f} CPU s/GiB after "
        f"the start), peak {ours['rss']:.0f} MiB of which {ours['base_rss']:.0f} before the first "
        f"byte; speed against curl + hash: {100 * both / ours['wall']:.0f} %"
    )


def main() -> None:
    # Here, so that the measured children do not load what only this needs.
    from federation.identity.authority import Authority
    from tests.pki import credentials_for, trust_of

    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o755)
        www, state = folder / "www", folder / "state"
        state.mkdir()
        make_packs(www)
        with (www / "whole").open("wb") as whole:
            for number in range(-(-SIZE // PACK)):
                whole.write((www / f"pack-{number}").read_bytes())
        manifest, locations = describe(www, "")
        (state / "chunks").write_bytes(manifest.files[0].chunks)
        (state / "places").write_bytes(locations.places)
        authority = Authority(folder / "ca", trust_domain=DOMAIN, clock=SystemClock())
        credentials_for(authority, PeerRole.CLUSTER, "bench", directory=state / "agent")
        (state / "roots.pem").write_text(trust_of(authority).bundle)
        print(
            f"{SIZE // MIB} MiB, median of {RUNS} runs, {os.cpu_count()} cores, nginx -> /dev/shm"
        )
        with nginx(folder, authority) as (plain, tls):
            compare(folder, plain, "http")
            compare(folder, tls, "https")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fetch", url, folder, state]:
            asyncio.run(fetch_child(url, Path(folder), Path(state)))
        case ["hash", path]:
            hash_child(Path(path))
        case _:
            main()
