"""Queues read off pages of metrics."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.queues import queued_of_ray, queued_of_triton

TRITON = """
# HELP nv_inference_pending_request_count Instantaneous number of pending requests
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="filetype--v1",version="1"} 3
nv_inference_pending_request_count{model="a.b_C-d--v12",version="1"} 0
nv_inference_pending_request_count{model="not-ours",version="1"} 9
nv_inference_pending_request_count_total{model="filetype--v1",version="1"} 7
nv_inference_request_success{model="filetype--v1",version="1"} 5
"""
RAY = """
ray_serve_deployment_queued_queries{WorkerId="w1",application="echo--v2",deployment="Model"} 2.0
ray_serve_deployment_queued_queries{application="echo--v2",deployment="Other",actor_id="a\\"b"} 1.0
ray_serve_deployment_queued_queries{application="",deployment="Model"} 4.0
"""


def test_triton() -> None:
    assert queued_of_triton(TRITON) == {("filetype", 1): 3, ("a.b_C-d", 12): 0}


def test_ray_adds_up_what_waits_at_each_proxy() -> None:
    assert queued_of_ray([RAY, RAY, ""]) == {("echo", 2): 6}


def test_what_is_not_told_is_not_known() -> None:
    assert queued_of_triton("") == queued_of_ray([]) == {}
    assert queued_of_triton('nv_inference_pending_request_count{model="m--v1"} NaN') == {}
    assert queued_of_triton('nv_inference_pending_request_count{model="m--v1"} -1') == {}
    assert queued_of_triton('nv_inference_pending_request_count{model="m--v1"} x') == {}
    assert queued_of_triton('nv_inference_pending_request_count{model="m--v1"') == {}


@given(st.text(max_size=200))
def test_no_page_breaks_it(text: str) -> None:
    queued_of_triton(f"nv_inference_pending_request_count{{{text}")
    queued_of_triton(text)
