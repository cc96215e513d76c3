import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from federation.relay.h2.status import Unimplemented
from router.grpc.methods import Need, metadata_with, rpc_of, server_metadata, without

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
OFFERED = {
    *("ServerLive", "ServerReady", "ServerMetadata"),
    *("ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer"),
}


@pytest.mark.parametrize("name", [method.name for method in SERVICE.methods])
def test_every_method_of_triton_is_offered_or_refused(name: str) -> None:
    path = f"/inference.GRPCInferenceService/{name}".encode()
    if name in OFFERED:
        assert rpc_of(path).name == name
    else:
        with pytest.raises(Unimplemented, match=name):
            rpc_of(path)


def test_only_health_needs_no_key() -> None:
    names = {name for name in OFFERED if rpc_of(SERVICE_PATH % name.encode()).open}
    assert names == {"ServerLive", "ServerReady"}
    assert rpc_of(b"/grpc.health.v1.Health/Check").need is Need.ROUTER


SERVICE_PATH = b"/inference.GRPCInferenceService/%s"


def test_own_answers_can_be_read() -> None:
    read = pb.ServerMetadataResponse.FromString(server_metadata("us", "1.2"))
    assert (read.name, read.version, list(read.extensions)) == ("us", "1.2", ["model_stream"])


def test_metadata_gets_our_name_and_versions() -> None:
    found = pb.ModelMetadataResponse(name="m--v1", versions=["1"], platform="p")
    found.inputs.add().name = "x"
    read = pb.ModelMetadataResponse.FromString(
        metadata_with(found.SerializeToString(), "m", (1, 2))
    )
    assert (read.name, list(read.versions), read.platform) == ("m", ["1", "2"], "p")
    assert read.inputs[0].name == "x"


@given(st.binary(max_size=60))
def test_nonsense_is_left_alone(message: bytes) -> None:
    assert isinstance(without(message, frozenset((1, 2))), bytes)
