import pytest

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.package import ModelPackage
from federation.contract.resources import DeploymentSpec, ModelSpec
from federation.contract.types import Runtime
from federation.policy.events import AliasMoved, ModelApplied, ModelVersionPushed
from tests.federation.policy.world import ACTOR, World


def move(world: World, alias: str, version: int | None) -> None:
    world.do(AliasMoved(actor=ACTOR, model="m", alias=alias, version=version))


def test_versions_count_from_one_and_the_same_content_keeps_its_number() -> None:
    world = World()
    assert [world.push("m", content) for content in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    assert world.push("n", "a") == 1


def test_the_same_content_again_changes_nothing() -> None:
    world = World()
    world.push("m", "a")
    revision = world.state.revision
    event = ModelVersionPushed(
        actor=ACTOR,
        package=ModelPackage(name="m", runtime=Runtime.ONNX),
        digest="m:a",
        size=1,
        files=1,
        source="again",
    )
    applied = world.applied(event)
    assert (applied.created, applied.version, applied.digest) == (False, 1, "m:a")
    assert world.state.revision == revision


def test_numbers_are_not_reused_after_a_deletion() -> None:
    world = World()
    world.push("m", "a")
    world.push("m", "b")
    world.remove("Model", "m")
    assert world.push("m", "a") == 3
    world.remove("Model", "m")
    world.do(ModelApplied(actor=ACTOR, name="m", spec=ModelSpec(description="empty")))
    world.remove("Model", "m")
    world.restart()
    assert world.push("m", "b") == 4


def test_aliases_move_and_are_removed() -> None:
    world = World()
    world.push("m", "a")
    world.push("m", "b")
    move(world, "champion", 1)
    move(world, "champion", 2)
    told = list(world.state.audit.values())[-1]
    assert told.message == "model 'm' was changed: alias 'champion' 1 → 2."
    move(world, "champion", None)
    assert world.state.models["m"].spec.aliases == {}


@pytest.mark.parametrize(
    ("alias", "version", "error", "words"),
    [
        ("champion", 9, NotFound, "has no version 9"),
        ("9", 1, Invalid, "would read like a version number"),
        ("No", 1, Invalid, "cannot name a alias"),
        ("champoin", None, NotFound, "has no alias 'champoin'"),
        ("1", None, NotFound, "has no alias '1'"),
    ],
)
def test_bad_aliases_are_refused(
    alias: str, version: int | None, error: type[Exception], words: str
) -> None:
    world = World()
    world.push("m")
    move(world, "champion", 1)
    with pytest.raises(error, match=words):
        move(world, alias, version)


def test_an_alias_in_use_stays() -> None:
    world = World()
    world.push("m")
    move(world, "champion", 1)
    world.deploy(DeploymentSpec(model="m", version="champion"))
    with pytest.raises(Conflict, match="used by deployment 'd'"):
        move(world, "champion", None)
    with pytest.raises(Conflict, match="used by deployment 'd'"):
        world.do(ModelApplied(actor=ACTOR, name="m", spec=ModelSpec()))


def test_a_model_can_be_described_before_its_first_version() -> None:
    world = World()
    spec = ModelSpec(description="labels files")
    assert world.applied(ModelApplied(actor=ACTOR, name="m", spec=spec)).created
    assert world.push("m") == 1
    assert world.state.models["m"].spec.description == "labels files"
    with pytest.raises(Invalid, match="has none yet"):
        spec = ModelSpec(aliases={"a": 1})
        world.do(ModelApplied(actor=ACTOR, name="n", spec=spec))


def test_a_deployed_model_cannot_be_deleted() -> None:
    world = World()
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    with pytest.raises(Conflict, match="used by deployments d"):
        world.remove("Model", "m")


def test_an_unknown_model_names_near_misses_and_the_remedy() -> None:
    world = World()
    world.push("filetype")
    with pytest.raises(NotFound, match="'filetpe' is unknown") as refusal:
        world.do(AliasMoved(actor=ACTOR, model="filetpe", alias="a", version=1))
    assert refusal.value.hint.startswith("Did you mean 'filetype'?")
    assert "fed model push" in refusal.value.hint


KEY, OTHER = "ab" * 32, "cd" * 32


def push_signed(world: World, content: str, *keys: str) -> int:
    event = ModelVersionPushed(
        actor=ACTOR,
        package=ModelPackage(name="m", runtime=Runtime.ONNX),
        digest=content,
        size=1,
        files=1,
        source="",
        signed_by=keys,
    )
    return world.applied(event).version


def test_a_model_with_publishers_takes_only_what_one_of_them_signed() -> None:
    world = World()
    world.do(ModelApplied(actor=ACTOR, name="m", spec=ModelSpec(publishers=(KEY,))))
    for keys in ((), (OTHER,)):
        with pytest.raises(Invalid, match="must be signed by one of its publishers") as refusal:
            push_signed(world, "a", *keys)
        assert refusal.value.reason == "not-signed"
    assert push_signed(world, "a", OTHER, KEY) == 1
    assert world.state.models["m"].versions[0].signed_by == (OTHER, KEY)
    assert push_signed(world, "a") == 1, "the same content is no new version"


@pytest.mark.parametrize("key", ["", "ab", KEY.upper(), KEY + "0", "g" * 64])
def test_a_publisher_is_a_public_key(key: str) -> None:
    with pytest.raises(Invalid, match="is not a public key"):
        World().do(ModelApplied(actor=ACTOR, name="m", spec=ModelSpec(publishers=(key,))))
