from typing import cast

from multidict import CIMultiDict

from federation.relay.forward import Channel
from federation.relay.http1.heads import ResponseHead
from router.request.ways import To, beginning


def head(status: int = 200, **fields: str) -> ResponseHead:
    made = ResponseHead(status, CIMultiDict({k.replace("_", "-"): v for k, v in fields.items()}))
    made.length = 2
    return made


def test_a_good_answer_begins_with_what_may_pass() -> None:
    begins = beginning(head(content_type="a/b", x_fed_load="3", server="e", x_request_id="i"))
    assert begins == b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n"


def test_what_has_to_be_looked_at_goes_the_usual_way() -> None:
    refused = head(x_fed_refused="engine-down")
    chunked, endless, last = head(), head(), head()
    chunked.chunked, endless.length, last.persistent = True, -1, False
    for bad in (head(404), head(503), head(204), refused, head(x_fed_outcome="unknown")):
        assert beginning(bad) is False
    for bad in (chunked, endless, last, head(X_RateLimit_Limit_Requests="1")):
        assert beginning(bad) is False


def test_the_line_of_a_length_is_that_of_this_answer() -> None:
    way = To(cast(Channel, None), set(), b"", b"")
    for length in (0, 7, 7, 1234, 0):
        assert way.length_line(length) == b"Content-Length: %d\r\n" % length
