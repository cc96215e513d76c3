"""The part of the fake control plane that rolls versions out: it does what it is told, at once.

Input: calls of `fed rollout`. Output: answers as the operator API gives them, and `asked`, what was
sent. A test says with `status` how far a rollout is.
"""

import json

from tests.federation.cli.fake_store import Json, Objects, Refusal

PLAN: Json = {
    "rollout": "m-2",
    "model": "m",
    "stable": 1,
    "canary": 2,
    "waves": 2,
    "approvals": [2],
    "least_s": 720.0,
    "clusters": [
        {
            "wave": 1,
            "cluster": "eu-1",
            "region": "eu",
            "fit": "beside",
            "replicas": 2,
            "missing": 0,
            "reason": "",
            "bytes": 5_000_000,
            "exact": True,
            "eta_s": 4.0,
            "assumes": "1.25 MB/s, its cap",
        },
        {
            "wave": 2,
            "cluster": "us-1",
            "region": "us",
            "fit": "cannot",
            "replicas": 0,
            "missing": 2,
            "reason": "no room for both",
            "bytes": 7_000_000,
            "exact": False,
            "eta_s": None,
            "assumes": "",
        },
    ],
    "regions": [
        {"region": "eu", "clusters": 1, "bytes": 5_000_000, "from_origin_bytes": 0, "eta_s": 4.0}
    ],
    "notes": ["both versions do not fit at once at us-1"],
}


def status(phase: str = "baking", **more: object) -> Json:
    """Return the status of a rollout from 1 to 2 in its first wave of two."""
    over = phase in ("promoted", "rolled-back", "failed")
    at = {"cluster": "eu-1", "state": "warmed", "done_bytes": 100, "total_bytes": 100}
    coming = {"cluster": "us-1", "state": "pending", "done_bytes": 62, "total_bytes": 100}
    moving = {"bytes_per_second": 418e6, "eta_s": 18.0, "replicas": 0, "golden": None, "reason": ""}
    verdict = {"outcome": "inconclusive", "words": "too few requests", "at": "2026-01-01T00:05:00Z"}
    return {
        "phase": phase,
        "over": over,
        "reason": "",
        "pause": None,
        "deployment": "m",
        "stable": 1,
        "canary": 2,
        "since": "2026-01-01T00:04:00Z",
        "started_by": "user/ann",
        "why": "better",
        "ended_at": "2026-01-01T00:12:00Z" if over else None,
        "wave": 1,
        "of_waves": 2,
        "step": 1,
        "of_steps": 3,
        "weights": {"eu": 5.0},
        "verdict": verdict,
        "waves": [
            {
                "number": 1,
                "state": "now",
                "approval": False,
                "approved_by": "",
                "weight": 5.0,
                "regions": [
                    {
                        "region": "eu",
                        "weight": 5.0,
                        "verdict": verdict,
                        "so_far": "errors 0.1 % against 0.2 %",
                        "clusters": [{**at, **moving, "replicas": 2}],
                    }
                ],
            },
            {
                "number": 2,
                "state": "next",
                "approval": True,
                "approved_by": "",
                "weight": 0.0,
                "regions": [
                    {
                        "region": "us",
                        "weight": 0.0,
                        "verdict": None,
                        "so_far": "",
                        "clusters": [{**coming, **moving}],
                    }
                ],
            },
        ],
        "next": "" if over else "5 % becomes 25 % if the analysis passes",
        "next_at": None,
        "commands": [{"does": "back to version 1", "command": "fed rollout abort m-2"}],
        "history": [
            {
                "at": "2026-01-01T00:00:00Z",
                "event": "accepted",
                "was": "pending",
                "now": "pending",
                "wave": 1,
                "step": 1,
                "actor": "user/ann",
                "reason": "somebody asked",
            }
        ],
        **more,
    }


class FakeRollouts:
    """Starts and steers."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.asked: list[Json] = []
        self.phases = {"pause": "paused", "abort": "rolling-back", "promote": "baking"}

    def answer(
        self, method: str, parts: list[str], query: dict[str, str], body: bytes
    ) -> Json | None:
        """Carry out one call; None if it is none of ours."""
        match method, parts:
            case "POST", ["api", "v1", "plan", "rollout"]:
                return {**PLAN, "model": self._read(body)["spec"]["model"]}
            case "POST", ["api", "v1", "rollouts"]:
                asked = self._read(body)
                return self._start(asked["spec"], asked["name"], status("pending"), query)
            case "POST", ["api", "v1", "models", model, "undo"]:
                spec = {"model": model, "version": self._read(body)["version"], "strategy": {}}
                return self._start(spec, "", status("staging"), query)
            case "POST", ["api", "v1", "rollouts", name, verb]:
                return self._steer(name, verb, self._read(body), query)
            case _:
                return None

    def _read(self, body: bytes) -> Json:
        asked: Json = json.loads(body)
        self.asked.append(asked)
        return asked

    def _start(self, spec: Json, name: str, told: Json, query: dict[str, str]) -> Json:
        number = len(self._objects.objects["rollouts"]) + 2
        name = name or f"{spec['model']}-{number}"
        if query.get("dryRun"):
            return {"metadata": {"name": name}, "spec": spec, "status": told}
        return self._objects.put("rollouts", name, spec, told)

    def _steer(self, name: str, verb: str, asked: Json, query: dict[str, str]) -> Json:
        rollouts = self._objects.objects["rollouts"]
        going = [n for n, r in rollouts.items() if r["spec"]["model"] == name]
        found = name if name in rollouts else next(iter(going), "")
        if not found:
            raise Refusal(404, "unknown-rollout", f"rollout {name!r} is unknown.")
        held = rollouts[found]
        told = {**held["status"], "phase": self.phases.get(verb, "staging"), "reason": asked["why"]}
        if query.get("dryRun"):
            return {**held, "status": told}
        return self._objects.put("rollouts", found, held["spec"], told)
