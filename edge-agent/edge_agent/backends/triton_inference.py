"""How a version is asked for an inference at any Triton, wherever it runs.

Input: a Triton's URL, a version. Output: the address of each verb, and one real inference.
"""

from edge_agent.backends.base import (
    OTHERS_ONLY,
    BackendError,
    Dialect,
    EngineRoute,
    StagedVersion,
    Verb,
    engine_name,
)
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.warmup import reason_of, warm_tensors, warm_text
from edge_agent.serving.v2_terms import Tensor
from federation.contract.types import ModelProtocol

_PATHS = {Verb.METADATA: "", Verb.READY: "/ready", Verb.INFER: "/infer"}
_TEXT_VERBS = {Verb.GENERATE, Verb.GENERATE_STREAM, Verb.COMPLETIONS, Verb.CHAT}


def route(
    base: str, key: tuple[str, int], verb: Verb, protocol: ModelProtocol
) -> EngineRoute | None:
    """Return where the verb lives; every text verb is a generate_stream here."""
    url, name = base + path(*key), engine_name(*key)
    text = protocol is ModelProtocol.TEXT
    if text and (verb in _TEXT_VERBS or verb is Verb.INFER):
        return EngineRoute(
            url=f"{url}/generate_stream", dialect=Dialect.TRITON_TEXT, engine_model=name
        )
    if verb in _TEXT_VERBS or verb in OTHERS_ONLY:
        return None
    return EngineRoute(url=url + _PATHS[verb], engine_model=name)


async def warm_up(http: EngineHttp, staged: StagedVersion) -> None:
    """Answer one real inference on the package's sample; raises BackendError."""
    at = path(staged.model, staged.version)
    if staged.package.protocol is ModelProtocol.TEXT:
        await warm_text(http, f"{at}/generate_stream", staged.package.warmup)
        return
    inputs = tuple(
        Tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in staged.package.inputs
    )
    if not inputs:  # a Triton folder need not declare them
        inputs = await _declared_inputs(http, at)
    await warm_tensors(http, f"{at}/infer", inputs, staged.package.warmup)


def path(model: str, version: int) -> str:
    """Return the path of a version."""
    return f"/v2/models/{engine_name(model, version)}/versions/{version}"


async def _declared_inputs(http: EngineHttp, at: str) -> tuple[Tensor, ...]:
    answer = await http.ask("GET", at)
    if answer.status != 200:
        raise BackendError(f"Triton tells no inputs: {reason_of(answer)}")
    return tuple(
        Tensor(name=t["name"], datatype=t["datatype"], shape=tuple(t["shape"]))
        for t in answer.json()["inputs"]
    )
