"""Which worlds, faults and traffic the tables of docs/analysis.md are about.

Input: nothing. Output: settings of `World` by the name of the row.
"""

from collections.abc import Mapping
from typing import Any

from federation.policy.analysis.limits import Metric

BUSY: dict[str, Any] = {"rps": 200}
ALL_OF_IT: dict[str, Any] = {"rps": 200, "users": 2000, "bursts": 0.05, "drift": True}
CALM: dict[str, Any] = {**BUSY, "users": 2000, "bursts": 0.05, "noise": 0.05}

WORLDS: Mapping[str, dict[str, Any]] = {
    "2 rps, weight 25 %": {"rps": 2, "weight": 0.25},
    "20 rps, 1 %": {"weight": 0.01},
    "20 rps, 5 %": {},
    "200 rps, 1 %": {**BUSY, "weight": 0.01},
    "200 rps, 5 %": BUSY,
    "200 rps, 25 %": {**BUSY, "weight": 0.25},
    "200, 5 %, wide": {**BUSY, "latency": "wide"},
    "200, 5 %, Pareto tail": {**BUSY, "latency": "Pareto tail"},
    "200, 5 %, two modes": {**BUSY, "latency": "two modes"},
    "200, 5 %, mode edge": {**BUSY, "latency": "mode edge"},
    "200, 5 %, common bursts": {**BUSY, "bursts": 0.05},
    "200, 5 %, drift": {**BUSY, "drift": True},
    "200, 5 %, one-sided noise 5 %": {**BUSY, "noise": 0.05},
    "200, 5 %, one-sided noise 10 %": {**BUSY, "noise": 0.1},
    "200, 5 %, 20,000 sticky users": {**BUSY, "users": 20000},
    "200, 5 %, 2,000 sticky users": {**BUSY, "users": 2000},
    "200, 5 %, 500 sticky users": {**BUSY, "users": 500},
    "20, 25 %, 200 sticky users": {"weight": 0.25, "users": 200},
    "200, 1 %, 2,000 sticky users": {**BUSY, "weight": 0.01, "users": 2000},
    "2,000 users, bursts, noise 10 %, drift": {**ALL_OF_IT, "noise": 0.1},
    "steps 5, 25, 50 %, 2,000 users, bursts": {
        **BUSY,
        "users": 2000,
        "bursts": 0.05,
        "weights": ((0, 0.05), (4, 0.25), (10, 0.5)),
    },
    "steps 1, 10, 50 %, drift, noise 5 %": {
        **BUSY,
        "drift": True,
        "noise": 0.05,
        "weights": ((0, 0.01), (5, 0.1), (12, 0.5)),
    },
}
# Worlds that had no part in choosing the method's numbers.
HELD_OUT: Mapping[str, dict[str, Any]] = {
    "one-sided noise 5 %, 120 s memory": {**BUSY, "noise": 0.05, "memory_s": 120.0},
    "one-sided noise 10 %, 10 s memory": {**BUSY, "noise": 0.1, "memory_s": 10.0},
    "one-sided noise 10 %, 300 s memory": {**BUSY, "noise": 0.1, "memory_s": 300.0},
    "5,000 users, activity sd 1.5, latency sd 0.4": {
        **BUSY,
        "users": 5000,
        "activity": 1.5,
        "pace": 0.4,
    },
    "2 % errors, 2,000 users, error CV 3": {
        **BUSY,
        "users": 2000,
        "errors": 0.02,
        "proneness": 3.0,
    },
    "0.01 % errors": {**BUSY, "errors": 0.0001},
    "bursts 20 % of the time, 2,000 users, 25 %": {
        "rps": 100,
        "weight": 0.25,
        "bursts": 0.2,
        "users": 2000,
    },
    "50 rps, steps 5, 25 %, 1,000 users, activity sd 1.5, drift": {
        "rps": 50,
        "users": 1000,
        "activity": 1.5,
        "drift": True,
        "weights": ((0, 0.05), (5, 0.25)),
    },
}
FAULTS: Mapping[str, tuple[Metric, dict[str, Any]]] = {
    "10× slow": (Metric.P95, {"slower": 10.0}),
    "p95 +100 %": (Metric.P95, {"slower": 2.0}),
    "p95 +38 %": (Metric.P95, {"slower": 1.38}),
    "p95 +20 % (the limit)": (Metric.P95, {"slower": 1.2}),
    "errors 5 %": (Metric.ERRORS, {"canary_errors": 0.05}),
    "errors 1 %": (Metric.ERRORS, {"canary_errors": 0.01}),
    "errors 0.3 %": (Metric.ERRORS, {"canary_errors": 0.003}),
    "10× slow from minute 13": (Metric.P95, {"slower": 10.0, "onset_min": 13.0}),
    "errors 5 % from minute 13": (Metric.ERRORS, {"canary_errors": 0.05, "onset_min": 13.0}),
}
TRAFFIC: Mapping[str, dict[str, Any]] = {
    "2 rps, 5 %": {"rps": 2},
    "20 rps, 1 %": {"weight": 0.01},
    "20 rps, 5 %": {},
    "20 rps, 25 %": {"weight": 0.25},
    "200 rps, 1 %": {**BUSY, "weight": 0.01},
    "200 rps, 5 %": BUSY,
    "200 rps, 25 %": {**BUSY, "weight": 0.25},
    "200, 5 %, 2,000 users, bursts, noise 5 %": CALM,
}
REGIONS = ((2, 0.25), (20, 0.05), (200, 0.05), (200, 0.01), (50, 0.25))  # rps, weight
BASELINES = (0.0005, 0.001, 0.005)
ALONE: Mapping[str, dict[str, Any]] = {
    name: {**settings, "weight": 1.0, "alone": True}
    for name, settings in {
        "2 rps": {"rps": 2},
        "20 rps": {},
        "200 rps": BUSY,
        "200 rps, 2,000 users": {**BUSY, "users": 2000},
        "200 rps, noise 5 %": {**BUSY, "noise": 0.05},
        "200 rps, noise 10 %": {**BUSY, "noise": 0.1},
        "200 rps, bursts": {**BUSY, "bursts": 0.05},
        "200 rps, drift": {**BUSY, "drift": True},
    }.items()
}
