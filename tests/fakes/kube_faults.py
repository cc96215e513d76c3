"""How to hurt the fake Kubernetes API server, and who may do what on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes.kube_kinds import Refusal


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived, after its path was understood."""

    at: float  # seconds of the event loop's clock
    verb: str  # "list", "watch", "get", "create", "update", "patch", "delete"
    group: str
    resource: str  # plural, with "/status" where that was meant
    namespace: str
    name: str
    user: str  # "" = the usual one
    query: dict[str, str]
    agent: str = ""
    token: str = ""

    def of(self, resource: str, *verbs: str) -> bool:
        return self.resource == resource and (not verbs or self.verb in verbs)


Matches = Callable[[Request], bool]


def anything(request: Request) -> bool:
    return True


@dataclass(slots=True)
class Fault:
    """Answers matching requests with a refusal, `times` times (None: until it is removed)."""

    refusal: Refusal
    matches: Matches = anything
    times: int | None = None


@dataclass(slots=True)
class Faults:
    """What is broken now."""

    refusals: list[Fault] = field(default_factory=list)
    denied: list[Matches] = field(default_factory=list)  # 403 and "no" to access reviews
    hang: Matches | None = None  # these requests get no answer at all
    deaf: bool = False  # open watches say nothing any more, and never end
    garbage: bool = False  # a watch's next line is no JSON

    def check(self, request: Request) -> None:
        """Raise the refusal that is due, if any."""
        for fault in self.refusals:
            if fault.times != 0 and fault.matches(request):
                if fault.times is not None:
                    fault.times -= 1
                raise fault.refusal
        if not self.allowed(request):
            where = (
                f'in the namespace "{request.namespace}"'
                if request.namespace
                else "at the cluster scope"
            )
            who = request.user or "system:serviceaccount:inference:fed-edge-agent"
            what = f'cannot {request.verb} resource "{request.resource}"'
            what = f'{what} in API group "{request.group}"'
            name = f' "{request.name}"' if request.name else ""
            plural = f"{request.resource}.{request.group}" if request.group else request.resource
            raise Refusal(
                403, "Forbidden", f'{plural}{name} is forbidden: User "{who}" {what} {where}'
            )

    def allowed(self, request: Request) -> bool:
        """Whether the rules let it through; impersonated users may do nothing."""
        if request.resource == "selfsubjectaccessreviews" or not request.resource:
            return True
        return not request.user and not any(denied(request) for denied in self.denied)

    # ------------------------------------------------------------ in words

    def deny(self, resource: str, *verbs: str) -> None:
        """403 for a resource (all verbs, if none is named)."""
        self.denied.append(lambda request: request.of(resource, *verbs))

    def throttle(
        self,
        matches: Matches = anything,
        *,
        retry_after_s: int | None = 1,
        times: int | None = None,
    ) -> Fault:
        """429, with or without Retry-After."""
        text = "Too many requests, please try again later."
        return self._add(
            Refusal(429, "TooManyRequests", text, retry_after_s=retry_after_s), matches, times
        )

    def fail(
        self, code: int = 500, matches: Matches = anything, *, times: int | None = None
    ) -> Fault:
        """5xx."""
        return self._add(Refusal(code, "InternalError", "on purpose"), matches, times)

    def expire(self, matches: Matches, *, times: int | None = None) -> Fault:
        """410 as HTTP status."""
        return self._add(Refusal(410, "Expired", "too old resource version: 1 (2)"), matches, times)

    def _add(self, refusal: Refusal, matches: Matches, times: int | None) -> Fault:
        fault = Fault(refusal, matches, times)
        self.refusals.append(fault)
        return fault

    def heal(self) -> None:
        """Nothing is broken any more; the rules of access stay."""
        self.refusals.clear()
        self.hang = None
        self.deaf = self.garbage = False
