"""A Ranking against sorting everything anew after each change."""

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.policy.ranking import Ranking
from tests.depth import examples

NAMES = tuple(f"c{n}" for n in range(6))
BY_REGION = {"one": NAMES[:4], "two": NAMES[4:], "empty": ()}
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("worse"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("changed"), st.sampled_from(NAMES), st.integers(-3, 3)),
        st.tuples(st.just("aside"), st.sampled_from(sorted(BY_REGION)), st.just(0)),
        st.tuples(st.just("back"), st.just(""), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=examples(60))
@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), CHANGES)
def test_the_best_is_the_lowest_rank_then_the_first_name(
    ranks: list[int], changes: list[tuple[str, str, int]]
) -> None:
    now = dict(zip(NAMES, ranks, strict=True))
    ranking, aside = Ranking(BY_REGION, lambda name: (now[name],)), set()
    for what, name, by in changes:
        if what == "aside":
            if top := ranking.best(name):
                aside.add(top[1])
            ranking.lay_aside(name)
        elif what == "back":
            ranking.put_back()
            aside.clear()
        elif name not in aside:  # nothing changes while clusters are chosen
            now[name] += by
            ranking.note(name, worse=what == "worse")
        for region, names in BY_REGION.items():
            listed = sorted(((now[n],), n) for n in names if n not in aside)
            assert ranking.best(region) == (listed[0] if listed else None)


def test_a_rank_is_not_worked_out_anew_for_each_change() -> None:
    asked: list[str] = []

    def rank(name: str) -> tuple[int]:
        asked.append(name)
        return (int(name[1:]),)

    ranking = Ranking(BY_REGION, rank)
    assert len(asked) == len(NAMES)
    for _ in range(3):
        ranking.note("c3", worse=True)
        assert ranking.best("one") == ((0,), "c0")
    assert len(asked) == len(NAMES), "it was not the best before, and cannot be now"
    ranking.note("unknown", worse=False)
    assert ranking.best("two") == ((4,), "c4")
