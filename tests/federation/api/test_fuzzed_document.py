"""The served OpenAPI document, and what schemathesis makes of it: sensible and senseless calls.

With an admin's token, so that all of the code behind the gate is reached. Nothing may end in an
error of ours (5xx) or hang, and every answer must be as the document says.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.federation.cli.threaded_plane import Threaded, threaded

SEED = int(os.environ.get("FED_FUZZ_SEED", "20260101"))  # a failure prints it
EXAMPLES = int(os.environ.get("FED_FUZZ_EXAMPLES", "6"))  # for each route and way of making calls
BUDGET_S = float(os.environ.get("FED_FUZZ_SECONDS", "80"))
ANSWER_S = 10.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with threaded(tmp_path_factory.mktemp("state")) as plane:
        yield plane


@pytest.mark.timeout(BUDGET_S + 40)
def test_no_call_ends_in_an_error_of_ours(real: Threaded) -> None:
    ended_s = time.monotonic() + BUDGET_S
    tried = 0
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no other roots
        session.verify = str(real.state_dir / "ca.pem")
        session.headers["Authorization"] = f"Bearer {real.plane.admin.text}"
        document = session.get(f"{real.url}/openapi.json", timeout=ANSWER_S).json()
        schema = schemathesis.openapi.from_dict(document)
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                # A route without parameters cannot be called senselessly.
                hopeless = (Unsatisfiable,) if mode is GenerationMode.NEGATIVE else ()

                @seed(SEED)
                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def call(case: "schemathesis.Case[Any]") -> None:
                    if time.monotonic() > ended_s:
                        return
                    if case.query:
                        case.query.pop("watch", None)  # a stream never ends by itself
                    response = case.call(
                        real.url, session=session, verify=session.verify, timeout=ANSWER_S
                    )
                    case.validate_response(response, checks=CHECKS)

                try:
                    with contextlib.suppress(*hopeless):
                        call()
                except Exception as error:
                    error.add_note(f"FED_FUZZ_SEED={SEED}")
                    raise
                tried += 1
    routes = len(real.plane.api.routes)
    assert tried >= routes, f"only {tried} of {2 * routes} fitted into {BUDGET_S:g} s"
