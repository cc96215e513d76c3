"""The words that users may use for a kind are unambiguous."""

from federation.contract.resources import KINDS, kind_of


def test_every_word_means_one_kind() -> None:
    words = [w for k in KINDS for w in {k.name.lower(), k.plural, *k.short}]
    assert len(words) == len(set(words))


def test_words_in_any_case() -> None:
    for word in ("Cluster", "cluster", "clusters", "CL"):
        kind = kind_of(word)
        assert kind is not None
        assert kind.name == "Cluster"


def test_unknown_word() -> None:
    assert kind_of("pod") is None
