from router.settings import Settings
from router.workers.shares import of_one


def test_what_a_process_may_use_is_split_and_what_a_request_may_is_not() -> None:
    whole = Settings(max_concurrent=4097, hold_requests=2, decision_records=0)
    part = of_one(whole, 4)
    assert (part.max_concurrent, part.hold_requests, part.decision_records) == (1025, 1, 0)
    assert part.replay_memory_bytes * 4 == whole.replay_memory_bytes
    assert part.max_body_bytes == whole.max_body_bytes
    assert of_one(whole, 1) == whole
