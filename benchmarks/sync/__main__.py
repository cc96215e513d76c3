"""How packages reach agents: fan-out over two regions, and one copy beside other tools.

Run as `python -m benchmarks.sync`; see --help. Output: tables on stdout; what is missing is said.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.sync import fanout, rivals
from benchmarks.sync.identities import Identities
from benchmarks.sync.processes import compile_all
from benchmarks.sync.stock import Version, make_versions, publish

MIB = 1 << 20


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="size of the package in MiB")
    parser.add_argument("--agents", type=int, default=20, help="in two regions")
    parser.add_argument("--rate", type=float, default=16.0, help="of each link, in MB/s")
    parser.add_argument("--only", choices=("fanout", "rivals"), help="run one half")
    parser.add_argument("--scenario", action="append", choices=fanout.SCENARIOS)
    parser.add_argument("--runs", type=int, default=3, help="of each rival; the median counts")
    parser.add_argument("--dir", type=Path, help="where the bytes go (default: a temporary one)")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    folder = Path(tempfile.mkdtemp(prefix="fed-bench-", dir=chosen.dir))
    folder.chmod(0o755)
    try:
        identities = Identities(folder / "identities")
        versions = make_versions(folder / "made", chosen.size * MIB)
        publish(versions, folder / "www", identities.release_key)
        if chosen.only != "rivals":
            compile_all("agent", "origin")
            asyncio.run(fan_out(chosen, folder, identities, versions[0]))
        if chosen.only != "fanout":
            rivals.compare(folder, identities, versions, chosen.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def fan_out(
    chosen: argparse.Namespace, folder: Path, identities: Identities, version: Version
) -> None:
    setting = fanout.Setting(
        folder=folder,
        www=folder / "www",
        identities=identities,
        version=version,
        agents=chosen.agents,
        mbytes_per_s=chosen.rate,
    )
    print(
        f"{chosen.size} MiB to {chosen.agents} agents in {len(fanout.REGIONS)} regions, links of "
        f"{chosen.rate:g} MB/s, {os.cpu_count()} cores; ideal {setting.ideal_s:.1f} s"
    )
    print(
        f"{'scenario':18} {'egress/size by region':>22} {'median':>8} {'last':>8} "
        f"{'last/ideal':>11} {'last/single':>12} {'peak MiB (at start)':>20} {'CPU s/GiB':>10}"
    )
    single_s = 0.0
    for scenario in chosen.scenario or fanout.SCENARIOS:
        found = await fanout.run(setting, scenario)
        single_s = found.last_s if scenario == "single" else single_s
        egress = " ".join(f"{share:.3f}" for share in found.egress)
        alone = f"{found.last_s / single_s:.2f}" if single_s else "-"
        print(
            f"{scenario:18} {egress:>22} {found.median_s:7.1f}s {found.last_s:7.1f}s "
            f"{found.last_s / setting.ideal_s:11.2f} {alone:>12} "
            f"{found.peak_mib:10.0f} ({found.base_mib:.0f}) {found.cpu_s_per_gib:15.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
