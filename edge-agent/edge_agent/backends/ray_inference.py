"""How a version is asked for an inference at any Ray Serve, wherever it runs.

Input: the URL of Serve's HTTP proxy, a version. Output: the address of each verb, below the prefix
of the version's application, and one real inference.
"""

from edge_agent.backends.base import OTHERS_ONLY, EngineRoute, StagedVersion, Verb, engine_name
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.warmup import warm_tensors, warm_text
from edge_agent.serving.v2_terms import Tensor
from federation.contract.types import ModelProtocol

_OPENAI = {Verb.COMPLETIONS: "/v1/completions", Verb.CHAT: "/v1/chat/completions"}
_TEXT_VERBS = {Verb.GENERATE, Verb.GENERATE_STREAM, *_OPENAI}


def route(
    base: str, key: tuple[str, int], verb: Verb, protocol: ModelProtocol
) -> EngineRoute | None:
    """Return where the verb lives; tensor models have no text verbs."""
    if verb in OTHERS_ONLY or (verb in _TEXT_VERBS and protocol is not ModelProtocol.TEXT):
        return None
    if verb in _OPENAI:
        return EngineRoute(url=f"{base}/{engine_name(*key)}{_OPENAI[verb]}")
    suffix = "" if verb is Verb.METADATA else f"/{verb.value}"
    return EngineRoute(url=base + path(*key) + suffix)


async def warm_up(http: EngineHttp, staged: StagedVersion) -> None:
    """Answer one real inference on the package's sample; raises BackendError."""
    at = path(staged.model, staged.version)
    if staged.package.protocol is ModelProtocol.TEXT:
        await warm_text(http, f"{at}/generate_stream", staged.package.warmup)
        return
    inputs = tuple(
        Tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in staged.package.inputs
    )
    await warm_tensors(http, f"{at}/infer", inputs, staged.package.warmup)


def path(model: str, version: int) -> str:
    """Return the path of a version."""
    return f"/{engine_name(model, version)}/v2/models/{model}/versions/{version}"
