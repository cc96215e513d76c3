from federation.api.families import counter, gauge


def test_families_have_a_sample_for_each_value() -> None:
    made = gauge("g", "told", {("a",): 1.0, ("b",): 2.0}, "who")
    assert [(s.labels, s.value) for s in made.samples] == [({"who": "a"}, 1.0), ({"who": "b"}, 2.0)]
    assert [s.name for s in counter("c", "told", {(): 3.0}).samples] == ["c_total"]
