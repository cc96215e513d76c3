import pytest

from federation.api.auth import Gate, bearer
from federation.app import ControlPlane
from federation.contract.errors import PermissionDenied, Unauthenticated
from federation.identity.tokens import TokenKind, mint, sha256
from tests.fakes.control_plane import Operator

ADMIN = mint(TokenKind.ADMIN, "local")
AGENT = mint(TokenKind.AGENT, "a")


def gate() -> Gate:
    return Gate(
        admin_sha256=sha256(ADMIN),
        router_sha256="",
        credential_of=lambda cluster: sha256(AGENT) if cluster == "a" else "",
    )


def test_known_callers_are_let_in() -> None:
    assert gate().admit(f"Bearer {ADMIN}", {TokenKind.ADMIN}).id == "local"
    assert gate().admit(f"bearer  {AGENT}", {TokenKind.AGENT}).id == "a"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        ADMIN,
        f"Basic {ADMIN}",
        f"Bearer {ADMIN}x",
        f"Bearer {mint(TokenKind.ADMIN, 'local')}",
        f"Bearer {mint(TokenKind.ROUTER, 'local')}",
        f"Bearer {mint(TokenKind.JOIN, 'a')}",
        f"Bearer {mint(TokenKind.AGENT, 'a')}",
        f"Bearer {mint(TokenKind.AGENT, 'b')}",
    ],
)
def test_strangers_are_not(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        gate().admit(header, set(TokenKind))


def test_a_known_caller_of_another_kind_is_denied() -> None:
    with pytest.raises(PermissionDenied, match="agent"):
        gate().admit(f"Bearer {AGENT}", {TokenKind.ADMIN})


def test_a_refusal_does_not_repeat_the_token() -> None:
    with pytest.raises(Unauthenticated) as raised:
        bearer(f"Bearer {ADMIN}!")
    assert ADMIN not in raised.value.sentence()


async def test_every_route_but_the_open_ones_needs_a_token(
    api: Operator, plane: ControlPlane
) -> None:
    for route in plane.api.routes:
        path = route.path.replace("{", "").replace("}", "")
        answer = await api.call(route.method, path, headers={"Authorization": ""})
        assert (answer.status == 401) is bool(route.callers), f"{route.method} {route.path}"


async def test_a_router_token_opens_nothing_here(api: Operator, plane: ControlPlane) -> None:
    shown = {"Authorization": f"Bearer {plane.router.text}"}
    for route in plane.api.routes:
        if route.callers:
            path = route.path.replace("{", "").replace("}", "")
            answer = await api.call(route.method, path, headers=shown)
            assert answer.status == 403, f"{route.method} {route.path}"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:7480", 200),
        ("127.0.0.1:7480", 200),
        ("[::1]:7480", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("[evil", 403),
    ],
)
async def test_only_known_host_names_are_served(api: Operator, host: str, status: int) -> None:
    answer = await api.call("GET", "/api/v1/regions", headers={"Host": host})
    assert answer.status == status
