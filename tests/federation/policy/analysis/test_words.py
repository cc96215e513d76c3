"""Numbers as people read them."""

import pytest

from federation.policy.analysis import words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.percent(0.0339), "3.39 %"),
        (words.limit(0.01), "1 %"),
        (words.limit(0.01254), "1.25 %"),
        (words.change(1.38), "+38 %"),
        (words.change(0.98), "−2 %"),
        (words.change(1.0), "+0 %"),
        (words.change(21.0), "+2,000 %"),
        (words.millis(3.42), "3.4 ms"),
        (words.millis(212.3), "212 ms"),
        (words.millis(12_340), "12.3 s"),
        (words.span(40), "40 s"),
        (words.span(360), "6 min"),
        (words.span(3 * 3600), "3 h"),
        (words.span(72 * 3600), "3 d"),
        (words.about(360), " (about 6 min at this rate)"),
        (words.about(None), ""),
        (words.listed(["a", "b"]), "a, b"),
        (words.listed(list("abcde")), "a, b, c and 2 more"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said == expected
