from federation.contract.trust import Revocation, Trust

_EU = "spiffe://fed.test/cluster/eu"


def test_lower_generations_of_that_identity_alone_are_refused() -> None:
    revoked = (Revocation(uri=_EU, below=7),)
    trust = Trust(version=1, trust_domain="fed.test", roots=(), revoked=revoked)
    assert trust.refuses(_EU, 6)
    assert not trust.refuses(_EU, 7)
    assert not trust.refuses("spiffe://fed.test/cluster/us", 6)


def test_the_bundle_holds_every_root_on_lines_of_its_own() -> None:
    trust = Trust(version=1, trust_domain="fed.test", roots=("one", "two\n"))
    assert trust.bundle == "one\ntwo\n"
