import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.demo.filetype import SPECS, filetype_features, label_of

SIZES = [0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, 8192, 8703, 8704, 8705, 20_000]


@pytest.mark.parametrize("version", SPECS)
@given(size=st.sampled_from(SIZES), blank=st.sampled_from([0, 3, 5000]))
def test_any_file_gives_a_full_row_of_bytes_and_padding(
    version: int, size: int, blank: int
) -> None:
    content = b" " * blank + bytes(range(33, 133)) * (size // 100) + b"x" * (size % 100)
    row = filetype_features(content, SPECS[version])
    assert len(row) == SPECS[version].length
    assert all(0 <= value <= 256 for value in row)


def test_short_content_is_padded_on_the_outside() -> None:
    row = filetype_features(b"  abc\n", SPECS[2])
    assert row[:4] == [97, 98, 99, 10]
    assert row[4:1024] == [256] * 1020
    assert row[-5:] == [32, 32, 97, 98, 99]
    assert row[1024:-5] == [256] * 1019


def test_version_1_looks_at_the_middle_too() -> None:
    content = b"a" * 6000 + b"M" * 512 + b"z" * 6000
    row = filetype_features(content, SPECS[1])
    assert row == [97] * 512 + [77] * 512 + [122] * 512
    short = filetype_features(b" abc ", SPECS[1])
    assert short[512:1024] == [256] * 254 + [97, 98, 99] + [256] * 255


def test_the_label_is_that_of_the_highest_score() -> None:
    assert label_of([0.1, 0.7, 0.2], ["a", "b", "c"]) == "b"
