"""Is every fault of encryption called one, and never answered by going without?

Real servers of Debian's PostgreSQL: the one from PyPI is built without OpenSSL.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from faults.exporter import Exporter, document, entry, exporter, until
from servers.postgresql import Server, standalone

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

OLD_BUT_WITH_TLS = 15


def encrypt(server: Server, certificate: trustme.LeafCert) -> None:
    """Have a running server use it from the next connection on."""
    key, chain = server.directory / "server.key", server.directory / "server.crt"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    owner = server.directory.stat()
    for path in (key, chain):
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    server.configure(ssl="on")


@dataclass(frozen=True, slots=True)
class Scene:
    """Two servers with TLS, the certificate of one expired, and an exporter that meets them in every way."""

    server: Server
    theirs: trustme.CA
    trusted: Path
    exporter: Exporter


EXPECTED = {
    "wrongname": 'server certificate for "db.example" does not match host name "other.example"',
    "expired": "certificate verify failed",
    "unknown": "certificate verify failed",
    "nofile": "root certificate file",
    "ancient": "",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("tls")
    with ExitStack() as stack:
        server = stack.enter_context(standalone("secure", OLD_BUT_WITH_TLS))
        expired = stack.enter_context(standalone("expired", OLD_BUT_WITH_TLS))
        ours, theirs = trustme.CA(), trustme.CA()
        trusted, other = home / "ours.pem", home / "theirs.pem"
        ours.cert_pem.write_to_path(trusted)
        theirs.cert_pem.write_to_path(other)
        encrypt(server, ours.issue_cert("db.example"))
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        encrypt(expired, ours.issue_cert("db.example", not_after=past))
        for one in (server, expired):
            until(lambda one=one: one.value("SELECT setting FROM pg_settings WHERE name = 'ssl'") == "on")  # type: ignore[misc]

        def to(which: Server, host: str, more: str) -> str:
            return f"{which.conninfo()} {more}".replace("host=127.0.0.1", f"host={host} hostaddr=127.0.0.1")

        full = f"sslmode=verify-full sslrootcert={trusted}"
        entries = {
            "fine": to(server, "db.example", full),
            "wrongname": to(server, "other.example", full),
            "expired": to(expired, "db.example", full),
            "unknown": to(server, "db.example", f"sslmode=verify-ca sslrootcert={other}"),
            "nofile": to(server, "db.example", f"sslmode=verify-ca sslrootcert={home / 'missing.pem'}"),
            "ancient": to(
                server, "db.example", f"{full} ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1"
            ),
        }
        made = stack.enter_context(exporter(home, document(*(entry(n, c) for n, c in entries.items()))))
        until(made.ready)
        yield Scene(server, theirs, trusted, made)


def test_a_certificate_that_can_be_verified_is_fine(scene: Scene) -> None:
    found = scene.exporter.scrape()
    assert found.success("fine/n0") == 1
    encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'regiondrift' AND ssl"
    assert scene.server.value(encrypted) == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_of_encryption_is_called_one(scene: Scene, name: str) -> None:
    found = scene.exporter.scrape()
    assert found.success(f"{name}/n0") == 0
    assert found.reasons(f"{name}/n0").keys() == {"tls"}
    (line,) = scene.exporter.lines('msg="look failed"', f"target={name}/n0 ")
    assert EXPECTED[name] in line.replace('\\"', '"')


def test_a_bundle_that_is_replaced_is_taken_without_a_restart(scene: Scene) -> None:
    """The server gets a certificate of another authority, and some time later the file of those that we trust does."""
    encrypt(scene.server, scene.theirs.issue_cert("db.example"))
    scene.server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'regiondrift'"
    )
    scene.exporter.until(lambda s: s.reasons("fine/n0").get("tls"), what="no longer trusted")
    scene.theirs.cert_pem.write_to_path(scene.trusted)
    scene.exporter.until(lambda s: s.success("fine/n0") == 1, 15, "trusted again")
    assert scene.exporter.stop() == 0
    assert "raceback" not in scene.exporter.said()
