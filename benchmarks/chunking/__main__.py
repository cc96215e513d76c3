"""`python -m benchmarks.chunking`: prints the table of bytes that travel, and the speeds."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.chunking.pairs import ONE, Maker, Pair, Shape
from benchmarks.chunking.speed import Speed, encodings, scanning
from benchmarks.chunking.table import OURS, Row, lines, row_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="models of 13 MB instead of 183 MB")
    parser.add_argument("--speed-mib", type=int, default=1024, help="size of the file to hash")
    options = parser.parse_args()
    shape = Shape.small() if options.small else Shape.large()
    with tempfile.TemporaryDirectory() as scratch:
        rows, noise = _rows(Maker(shape), Path(scratch))
        _print_rows(rows)
        _print_speeds(scanning(Path(scratch, "speed"), options.speed_mib << 20), noise)


def _rows(maker: Maker, scratch: Path) -> tuple[list[Row], Pair]:
    rows, last = [], None
    for pair in maker.pairs():
        rows.append(row_of(pair, scratch, encodings=pair.noise))
        last = pair
    assert last is not None
    return rows, last


def _print_rows(rows: list[Row]) -> None:
    print("Bytes that travel, in % of the new version:\n")
    print(*lines(rows), sep="\n")
    for row in rows:
        if row.encoded is not None and row.weight_delta is not None:
            print(f"\n{row.pair}: {100 * row.encoded / row.size:.0f} % as sent,", end=" ")
            print(f"{100 * row.weight_delta / row.size:.0f} % with the weight delta.")
    first = rows[0]
    print(
        f"\n{first.size / 1e6:.0f} MB are {first.chunks} chunks: {first.manifest_bytes} bytes.",
        end=" ",
    )
    print(f"What {OURS} moves is at most {_worst(rows):.0%} of what fixed 4M does.")


def _worst(rows: list[Row]) -> float:
    return max(row.travels[OURS] / (row.travels["fixed 4M"] or 1) for row in rows)


def _print_speeds(speeds: list[Speed], noise: Pair) -> None:
    middle = len(noise.new[ONE]) // 2
    part = slice(middle, middle + (1 << 20))
    print("\n| work | CPU s/GiB | MB/s | ratio to the first of its kind |")
    print("|---|---|---|---|")
    for group in (speeds, encodings(noise.new[ONE][part], noise.old[ONE][part])):
        for speed in group:
            rate = speed.bytes / speed.wall_s / 1e6
            ratio = speed.wall_s / speed.bytes * group[0].bytes / group[0].wall_s
            print(f"| {speed.name} | {speed.cpu_s_per_gib:.2f} | {rate:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
