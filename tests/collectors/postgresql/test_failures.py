"""Does every complaint of a server or of libpq get the reason that somebody at 3 a.m. needs?"""

from __future__ import annotations

import pytest

from regiondrift.model import Reason
from regiondrift_collectors.postgresql.failures import at_connect, in_query, of_state, one_line

AT = 'connection to server at "{}" (127.0.0.1), port 5432 failed: '

WORDS = {
    # nobody there, or gone in mid-sentence
    "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?": Reason.UNREACHABLE,
    "No route to host\n\tIs the server running on that host and accepting TCP/IP connections?": Reason.UNREACHABLE,
    "Network is unreachable": Reason.UNREACHABLE,
    "Host is down": Reason.UNREACHABLE,
    "Permission denied": Reason.UNREACHABLE,
    "Operation not permitted": Reason.UNREACHABLE,
    "Cannot assign requested address": Reason.UNREACHABLE,
    "could not create socket: Address family not supported by protocol": Reason.UNREACHABLE,
    "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n"
    "\tbefore or while processing the request.": Reason.UNREACHABLE,
    "could not receive data from server: Connection reset by peer": Reason.UNREACHABLE,
    "could not send startup packet: Broken pipe": Reason.UNREACHABLE,
    "could not send SSL negotiation packet: Connection reset by peer": Reason.UNREACHABLE,
    "could not receive data from server: Software caused connection abort": Reason.UNREACHABLE,
    # a handshake that was cut short says nothing of certificates
    "SSL SYSCALL error: EOF detected": Reason.UNREACHABLE,
    "SSL SYSCALL error: Connection reset by peer": Reason.UNREACHABLE,
    "SSL error: unexpected eof while reading": Reason.UNREACHABLE,
    "SSL connection has been closed unexpectedly": Reason.UNREACHABLE,
    # the kernel waited, and then gave up
    "Connection timed out": Reason.TIMEOUT,
    "could not receive data from server: Connection timed out": Reason.TIMEOUT,
    "SSL SYSCALL error: Connection timed out": Reason.TIMEOUT,
    "timeout expired": Reason.TIMEOUT,
    # encryption
    "SSL error: certificate verify failed": Reason.TLS,
    'server certificate for "other" does not match host name "localhost"': Reason.TLS,
    "server does not support SSL, but SSL was required": Reason.TLS,
    'root certificate file "/x/ca.pem" does not exist': Reason.TLS,
    'could not open certificate file "/x": Permission denied': Reason.TLS,
    'could not load private key file "/x": no start line': Reason.TLS,
    "SSL error: tlsv1 alert protocol version": Reason.TLS,
    "SSL error: unsupported protocol": Reason.TLS,
    "SSL error: tlsv13 alert certificate required": Reason.TLS,
    "SSL error: sslv3 alert handshake failure": Reason.TLS,
    # credentials
    "fe_sendauth: no password supplied": Reason.AUTHENTICATION,
    "authentication method 7 not supported": Reason.AUTHENTICATION,
    "incorrect server signature": Reason.AUTHENTICATION,
    "none of the server's SASL authentication mechanisms are supported": Reason.AUTHENTICATION,
    "channel binding required, but SSL not in use": Reason.AUTHENTICATION,
    'authentication method requirement "scram-sha-256" failed: server did not complete authentication': Reason.AUTHENTICATION,
    # something else answers
    "received invalid response to SSL negotiation: H": Reason.PROTOCOL,
    "received unencrypted data after SSL response": Reason.PROTOCOL,
    "SSL error: wrong version number": Reason.PROTOCOL,
    "expected authentication request from server, but received H": Reason.PROTOCOL,
    "malformed SCRAM message (empty message)": Reason.PROTOCOL,
    "received invalid protocol negotiation message": Reason.PROTOCOL,
    "protocol version not supported by server": Reason.PROTOCOL,
    "words that libpq does not have yet": Reason.PROTOCOL,
    # ours
    "could not create socket: Too many open files": Reason.INTERNAL,
    "out of memory": Reason.INTERNAL,
}  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), WORDS.items())
def test_libpqs_words_at_connect(message: str, reason: Reason) -> None:
    assert at_connect(AT.format("db.example") + message + "\n").failure.reason is reason


def test_no_word_at_all_is_no_word_of_the_server() -> None:
    assert at_connect("").failure.reason is Reason.INTERNAL
    assert at_connect("\n").failure.detail


@pytest.mark.parametrize("host", ["ssl.example", "certificate", "reset.example", "SSL error", "timed out"])
def test_a_hosts_name_is_no_complaint(host: str) -> None:
    assert at_connect(AT.format(host) + "Connection refused").failure.reason is Reason.UNREACHABLE


def test_the_socket_of_a_server_that_does_not_run() -> None:
    message = (
        'connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory\n'
        "\tIs the server running locally and accepting connections on that socket?\n"
    )
    assert at_connect(message).failure.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("state", "reason"),
    {
        "28P01": Reason.AUTHENTICATION,
        "28000": Reason.AUTHENTICATION,
        "3D000": Reason.PROTOCOL,
        "40001": Reason.OVERLOADED,
        "42501": Reason.PERMISSION,
        "42883": Reason.PROTOCOL,
        "53300": Reason.OVERLOADED,
        "55000": Reason.STARTING,
        "55P03": Reason.TIMEOUT,
        "57014": Reason.TIMEOUT,
        "57P01": Reason.UNREACHABLE,
        "57P02": Reason.UNREACHABLE,
        "57P03": Reason.STARTING,
        "08006": Reason.UNREACHABLE,
        "08P01": Reason.PROTOCOL,
        "0A000": Reason.UNSUPPORTED_VERSION,
        "58030": Reason.UNREACHABLE,
        "XX000": Reason.PROTOCOL,
        "22P02": Reason.REFUSED_VALUE,
        "25006": Reason.INTERNAL,
    }.items(),
)
def test_a_sqlstate_counts_wherever_it_stands(state: str, reason: Reason) -> None:
    assert of_state(state) is reason
    assert in_query(state, "ERROR:  whatever SSL certificate timed out").failure.reason is reason
    at_start = AT.format("db") + f"FATAL:  {state}: SSL certificate timed out\nLOCATION:  f, postinit.c:1\n"
    assert at_connect(at_start).failure.reason is reason


def test_of_several_addresses_the_last_one_counts() -> None:
    refused = AT.format("db") + "Connection refused\n"
    wrong = AT.format("db") + "FATAL:  28P01: password authentication failed\nLOCATION:  auth_failed, auth.c:1\n"
    assert at_connect(refused + wrong).failure.reason is Reason.AUTHENTICATION
    assert at_connect(wrong + refused).failure.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("message", "reason"),
    {
        "server closed the connection unexpectedly": Reason.UNREACHABLE,
        "consuming input failed: SSL SYSCALL error: EOF detected": Reason.UNREACHABLE,
        "sending query failed: no connection to the server": Reason.UNREACHABLE,
        "the connection is closed": Reason.UNREACHABLE,
        'lost synchronization with server: got message type "Z", length 1936': Reason.PROTOCOL,
        'insufficient data in "D" message': Reason.PROTOCOL,
        'server sent data ("D" message) without prior row description ("T" message)': Reason.PROTOCOL,
        'unexpected field count in "D" message': Reason.PROTOCOL,
        "sending query failed: another command is already in progress": Reason.INTERNAL,
    }.items(),
)
def test_a_connection_that_breaks_during_a_statement(message: str, reason: Reason) -> None:
    assert in_query(None, message).failure.reason is reason


def test_what_is_shown_is_one_bounded_line_without_source_locations() -> None:
    shown = one_line("FATAL:  28P01: no\nLOCATION:  auth_failed, auth.c:321\nCONTEXT:  secret\n" + "x" * 10_000)
    assert "\n" not in shown
    assert "auth.c" not in shown
    assert "secret" not in shown
    assert len(shown) <= 300
