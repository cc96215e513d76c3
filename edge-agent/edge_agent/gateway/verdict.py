"""What an engine's error answer means: whose fault it is, and whether it may be tried elsewhere.

Input: status and the start of the body. Output: a Verdict. The texts are those of Triton and Ray
Serve. They are matched where the engine itself begins its sentence, so that a model that repeats
its input in an error cannot make the agent doubt it.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused` = nothing was executed, for this reason; `unknown` = something may have been.

    `status` replaces the engine's, unless it is 0.
    """

    doubt: bool = False
    refused: str = ""
    unknown: bool = False
    status: int = 0


ITS_OWN = Verdict()  # the model's or the client's matter: passed on as it is
LOST = Verdict(doubt=True, refused="engine-down")  # the engine has not, or no longer, loaded it
UNREADABLE = Verdict(status=400)  # the client's mistake, though Triton says 500
FAULTY = Verdict(status=500)  # the model's, though Triton says 400 when a stream begins with it
SATURATED = Verdict(refused="saturated")
SICK = Verdict(doubt=True, unknown=True)  # its process died, while the engine still calls it ready
DIED = Verdict(unknown=True)  # a replica ended under the request; the engine starts another itself

_ERROR = rb'\s*\{\s*"error"\s*:\s*"'
_TABLE: tuple[tuple[frozenset[int], re.Pattern[bytes], Verdict], ...] = (
    (
        frozenset({400, 404, 503}),
        re.compile(_ERROR + rb"(?:Request for )?unknown model"),
        LOST,
    ),
    (frozenset({404}), re.compile(rb"\s*Path '[^']*' not found"), LOST),
    (
        frozenset({500}),
        re.compile(
            _ERROR + rb"(?:(?:in ensemble|Failed to process)[^\"]{0,300}message: )?"
            rb"(?:Stub process|the worker of) [^\"]{0,200}is not healthy"
        ),
        SICK,
    ),
    (
        frozenset({500}),
        re.compile(_ERROR + rb"(?:failed to parse the request JSON|Unable to parse ')"),
        UNREADABLE,
    ),
    (
        frozenset({400}),  # what `serving.triton_model` answers, as the first event
        re.compile(rb"(?:data:)?" + _ERROR + rb"the model failed: "),
        FAULTY,
    ),
    (frozenset({500}), re.compile(rb"Internal Server Error\s*\Z"), DIED),
    (
        frozenset({503}),
        re.compile(_ERROR + rb"[^\"]{0,200}(?i:exceeds maximum queue size)"),
        SATURATED,
    ),
    (frozenset({503}), re.compile(rb"\s*Request dropped due to backpressure"), SATURATED),
    (frozenset({503}), re.compile(rb"\s*Deployment\(.{0,200}\) is unavailable"), LOST),
)


def judge(status: int, body: bytes) -> Verdict:
    """Return what an error answer of the engine means."""
    found = (v for statuses, text, v in _TABLE if status in statuses and text.match(body))
    return next(found, ITS_OWN)
