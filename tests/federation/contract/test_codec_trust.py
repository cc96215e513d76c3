from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from federation.contract import access as a
from federation.contract import codec_trust
from federation.contract.trust import Revocation, RouterAddress, Trust
from federation.contract.v1 import federation_pb2 as pb

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
numbers = st.integers(0, 2**63)
small = st.integers(0, 2**31)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda d: d.replace(microsecond=0, tzinfo=UTC)
)
accesses = st.builds(
    a.Access,
    pepper=names,
    tenants=st.lists(
        st.builds(
            a.Tenant,
            name=names,
            models=st.lists(names, max_size=2).map(tuple),
            residency=st.lists(names, max_size=2).map(tuple),
            requests_per_minute=small,
            tokens_per_minute=numbers,
            max_concurrent=small,
        ),
        max_size=2,
    ).map(tuple),
    keys=st.lists(
        st.builds(
            a.ApiKey,
            id=names,
            tenant=names,
            digest=names,
            expires_at=st.none() | instants.map(lambda d: d.replace(microsecond=0)),
        ),
        max_size=2,
    ).map(tuple),
)
trusts = st.builds(
    Trust,
    version=numbers,
    trust_domain=names,
    roots=st.lists(names, max_size=2).map(tuple),
    release_keys=st.lists(names, max_size=2).map(tuple),
    revoked=st.lists(st.builds(Revocation, uri=names, below=numbers), max_size=2).map(tuple),
)
routers = st.lists(st.builds(RouterAddress, name=names, reverse_address=names), max_size=3).map(
    tuple
)


@given(trusts)
def test_trust_round_trips(trust: Trust) -> None:
    wire = codec_trust.trust_to_proto(trust).SerializeToString()
    assert codec_trust.trust_from_proto(pb.Trust.FromString(wire)) == trust


@given(routers)
def test_router_addresses_round_trip(addresses: tuple[RouterAddress, ...]) -> None:
    wire = codec_trust.routers_to_proto(addresses).SerializeToString()
    assert codec_trust.routers_from_proto(pb.RouterAddresses.FromString(wire)) == addresses
