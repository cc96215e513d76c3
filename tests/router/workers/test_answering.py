import random

import msgspec
import pytest

from federation.contract.errors import Invalid, NotFound
from federation.runtime.clock import SystemClock
from router.geo import Locator
from router.policy import table as tables
from router.state import RouterState
from router.workers.answering import Answers, raise_for
from router.workers.frames import Answer, Ask
from tests.router.fakes import make_snapshot


def test_documents_numbers_and_errors() -> None:
    state = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0))
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"})))
    locator = Locator()
    answers = Answers(state, locator)
    told = raise_for(answers.answer(Ask(1, "explain", {"reference": "digits", "address": ""})))
    assert msgspec.json.decode(told.data)["model"] == "digits"
    state.signals.begin("us-1", "digits", 2, 0.0)
    told = answers.answer(Ask(2, "in-flight"))
    assert (told.id, msgspec.msgpack.decode(told.data)) == (2, {"us-1": 1})
    with pytest.raises(NotFound, match="remembers no request 'x'") as refused:
        raise_for(answers.answer(Ask(3, "record", {"request": "x"})))
    assert refused.value.reason == "unknown-request"
    with pytest.raises(Invalid, match="cannot answer 'weather'"):
        raise_for(answers.answer(Ask(4, "weather")))
    assert raise_for(Answer(1, b"{}")).data == b"{}"
    locator.close()
