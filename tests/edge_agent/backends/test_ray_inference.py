"""Where verbs live at Ray Serve: below the prefix of the version's application."""

import pytest

from edge_agent.backends.base import Verb
from edge_agent.backends.ray_inference import path, route
from federation.contract.types import ModelProtocol

BASE = "http://serve:8000"


@pytest.mark.parametrize(
    ("verb", "url"),
    [
        (Verb.METADATA, "/m--v1/v2/models/m/versions/1"),
        (Verb.INFER, "/m--v1/v2/models/m/versions/1/infer"),
        (Verb.GENERATE_STREAM, "/m--v1/v2/models/m/versions/1/generate_stream"),
        (Verb.CHAT, "/m--v1/v1/chat/completions"),
    ],
)
def test_verbs_of_text_models(verb: Verb, url: str) -> None:
    found = route(BASE, ("m", 1), verb, ModelProtocol.TEXT)
    assert found is not None
    assert (found.url, found.engine_model) == (BASE + url, "")


def test_tensor_models_have_no_text_verbs() -> None:
    assert route(BASE, ("m", 1), Verb.CHAT, ModelProtocol.TENSOR) is None
    assert route(BASE, ("m", 1), Verb.EMBEDDINGS, ModelProtocol.TENSOR) is None
    assert route(BASE, ("m", 1), Verb.EMBEDDINGS, ModelProtocol.TEXT) is None
    assert path("m", 2) == "/m--v2/v2/models/m/versions/2"
