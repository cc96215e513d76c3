"""The error tree and its two tables stay complete and agree with gRPC's names."""

import grpc
import pytest

from federation.contract import errors as e


def _tree(cls: type[e.FederationError]) -> set[type[e.FederationError]]:
    return {cls}.union(*(_tree(sub) for sub in cls.__subclasses__()))


def test_every_error_has_a_status_in_both_tables() -> None:
    inside = {cls for cls in _tree(e.FederationError) if cls.__module__ == e.__name__}
    assert inside == set(e.HTTP_STATUS) == set(e.GRPC_STATUS)


def test_grpc_names_exist() -> None:
    assert set(e.GRPC_STATUS.values()) <= set(grpc.StatusCode.__members__)


def test_a_subclass_elsewhere_takes_the_status_of_its_nearest_parent() -> None:
    class Special(e.NotFound):
        pass

    assert e.http_status(Special("gone.")) == 404
    assert e.grpc_status(Special("gone.")) == "NOT_FOUND"


def test_sentence_joins_message_and_remedy() -> None:
    assert e.Invalid("a is wrong.", hint="Use b.").sentence() == "a is wrong. Use b."
    assert e.Invalid("a is wrong.").sentence() == "a is wrong."


def test_reason_can_be_narrowed() -> None:
    assert e.Invalid("x").reason == "invalid"
    assert e.Invalid("x", reason="idempotency-key-reused").reason == "idempotency-key-reused"


def test_a_refused_transition_tells_its_story() -> None:
    error = e.InvalidTransition("filetype@2", "pending", "Warmed", ("none -> pending",))
    assert str(error) == (
        "filetype@2 is pending and cannot take Warmed. Its last transitions: none -> pending."
    )
    with pytest.raises(e.Conflict):
        raise error
