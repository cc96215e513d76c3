import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.rollout import VersionCounts
from federation.contract.trust import Trust
from router.settings import Settings
from router.workers import frames

TRUST = Trust(version=2, trust_domain="fed.test", roots=("root",))
COUNTS = VersionCounts(model="m", version=1, region="eu", requests=(1,) * 32, latency={-3: 2})
ORDERS: list[frames.Order] = [
    frames.Welcome(index=1, of=4, settings=Settings(workers=4), address=("127.0.0.1", 7400)),
    frames.Identity("certificate", "key", TRUST),
    frames.Table(3, b"\x00\xff" * 100),
    frames.Standing(revoked=True, problem="why", in_contact=True),
    frames.Go(),
    frames.Ask(7, "explain", {"reference": "m"}),
    frames.Reload(),
    frames.Stop(),
]
WORDS: list[frames.Word] = [
    frames.Up(("127.0.0.1", 7400)),
    frames.Applied(3, "why not"),
    frames.Answer(7, b"{}", "NotFound", "no.", "hint", "reason"),
    frames.Report(5, 1, {"m": 2}, {"a": frames.Seen(True, None, "slow")}, [COUNTS]),
    frames.Figures([("f", "help", "counter", [("f_total", {"a": "b"}, 2.0)])]),
]


def stream_of(messages: list[frames.Order] | list[frames.Word]) -> bytes:
    return frames.PREAMBLE + b"".join(frames.frame(message) for message in messages)


@given(st.lists(st.integers(1, 400), max_size=40))
@settings(max_examples=30, deadline=None)
def test_messages_come_out_however_the_bytes_arrive(cuts: list[int]) -> None:
    data, reader = stream_of(ORDERS), frames.FrameReader()
    bodies: list[bytes] = []
    for cut in cuts:
        bodies += reader.feed(data[:cut])
        data = data[cut:]
    bodies += reader.feed(data)
    reader.end()
    assert [frames.order(body) for body in bodies] == ORDERS


def test_what_workers_say_comes_out_too() -> None:
    assert [frames.word(b) for b in frames.FrameReader().feed(stream_of(WORDS))] == WORDS


def test_a_stream_that_breaks_off_is_told_from_one_that_ends() -> None:
    message = frames.Applied(3, "why")
    whole = frames.PREAMBLE + frames.frame(message)
    for length in range(len(whole) + 1):
        reader = frames.FrameReader()
        bodies = list(reader.feed(whole[:length]))
        assert [frames.word(b) for b in bodies] == ([message] if length == len(whole) else [])
        if length in (0, len(frames.PREAMBLE), len(whole)):
            reader.end()
        else:
            with pytest.raises(Invalid, match="broke off"):
                reader.end()


def test_every_truncated_body_is_refused() -> None:
    for message in WORDS:
        body = frames.frame(message)[4:]
        for length in range(len(body)):
            with pytest.raises(Invalid, match="cannot be read"):
                frames.word(body[:length])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / ", "no keeper and no worker"),
        (b"X", "no keeper and no worker"),
        (b"FEDW\x00\x63", "versions 99 and 1 .* restart the router"),
        (frames.PREAMBLE + b"\xff\xff\xff\xff", "too long"),
    ],
)
def test_other_streams_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        list(frames.FrameReader().feed(data))
    refused.match(words.split(" .* ")[0])
    assert words.split(" .* ")[-1] in refused.value.sentence()


def test_a_key_and_a_table_are_not_in_what_logs_show() -> None:
    assert "key" not in repr(frames.Identity("certificate", "secret-key", TRUST))
    assert repr(frames.Table(3, b"abc")) == "Table(3, 3 bytes)"
