import ssl

from federation.relay.failures import broke_off, no_connection, refused_by_peer


def test_the_alert_of_a_peer_that_refuses_our_certificate_means_that_nothing_ran() -> None:
    text = "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)"
    assert refused_by_peer(ssl.SSLError(1, text)) == "it refused our certificate: unknown ca"
    text = "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"
    assert "certificate required" in refused_by_peer(ssl.SSLError(1, text))
    assert refused_by_peer(ConnectionResetError(104, "Connection reset by peer")) == ""
    assert refused_by_peer(None) == ""


def test_why_there_is_no_connection_is_said_in_one_line() -> None:
    assert str(no_connection(ConnectionRefusedError(), "h:1")) == "cannot connect to h:1"
    broken = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    broken.reason = "WRONG_VERSION_NUMBER"
    assert str(no_connection(broken, "h:1")) == "no secure connection to h:1: wrong version number"
    assert not no_connection(broken, "h:1").may_have_run


def test_how_a_connection_ended_is_said_in_one_line() -> None:
    assert broke_off(None) == "it disconnected"
    assert broke_off(ConnectionResetError()) == "ConnectionResetError"
    assert broke_off(OSError("a\nb")) == "a"
