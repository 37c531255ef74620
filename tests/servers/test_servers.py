"""Do the servers and the link do what they say? Everything else in tests/ stands on this."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.postgresql import Pair, Server, pair, standalone
from servers.proxy import Proxy

SOON = 15.0


@pytest.fixture(scope="module")
def regions() -> Iterator[Pair]:
    with pair(settings={"wal_receiver_timeout": "2s", "wal_sender_timeout": "2s"}) as made:
        made.primary.execute("CREATE TABLE rows (id int)")
        yield made


@pytest.fixture
def healthy(regions: Pair) -> Iterator[Pair]:
    yield regions
    regions.link.set("pass")
    regions.standby.resume()
    regions.wait_caught_up()


def until(holds: str, server: Server) -> None:
    """Asked again until true; the time it may take is generous, since it is no part of what is tested."""
    end = time.monotonic() + SOON
    while not server.value(holds):
        assert time.monotonic() < end, holds
        time.sleep(0.02)


def rows(server: Server) -> int:
    return int(server.value("SELECT count(*) FROM rows"))


RECEIVING = "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"
NOT_RECEIVING = "SELECT count(*) = 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'"


class TestPair:
    def test_replicates(self, healthy: Pair) -> None:
        healthy.primary.execute("INSERT INTO rows VALUES (1)")
        healthy.wait_caught_up()
        assert rows(healthy.standby) == rows(healthy.primary)
        assert healthy.standby.is_standby()
        assert not healthy.primary.is_standby()

    def test_exporter_has_no_more_than_pg_monitor(self, healthy: Pair) -> None:
        import psycopg

        with psycopg.connect(healthy.standby.conninfo()) as connection:
            receiver = connection.execute("SELECT sender_host, received_tli FROM pg_stat_wal_receiver").fetchall()
            assert receiver == [("127.0.0.1", 1)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT pg_wal_replay_pause()")

    def test_password_is_asked_for(self, healthy: Pair) -> None:
        import psycopg

        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(healthy.primary.conninfo(password=False), passfile=os.devnull)

    def test_refused_link_is_known_at_once(self, healthy: Pair) -> None:
        healthy.link.set("refuse")
        until(NOT_RECEIVING, healthy.standby)
        healthy.primary.execute("INSERT INTO rows VALUES (2)")
        assert rows(healthy.standby) < rows(healthy.primary)

    def test_black_hole_is_silent_until_the_timeout(self, healthy: Pair) -> None:
        until(RECEIVING, healthy.standby)
        healthy.link.set("blackhole")
        healthy.primary.execute("INSERT INTO rows VALUES (3)")
        assert healthy.standby.value(RECEIVING)
        until(NOT_RECEIVING, healthy.standby)
        assert rows(healthy.standby) < rows(healthy.primary)

    def test_paused_replay_receives_and_does_not_apply(self, healthy: Pair) -> None:
        healthy.standby.pause()
        healthy.primary.execute("INSERT INTO rows VALUES (4)")
        position = healthy.primary.value("SELECT pg_current_wal_flush_lsn()::text")
        until(f"SELECT pg_last_wal_receive_lsn() >= '{position}'::pg_lsn", healthy.standby)
        assert rows(healthy.standby) < rows(healthy.primary)

    def test_frozen_server_is_mute_and_comes_back(self, healthy: Pair) -> None:
        with healthy.standby.connect() as connection:
            healthy.standby.freeze()
            with socket.create_connection(("127.0.0.1", healthy.standby.port)) as mute:
                mute.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest: any live server answers one byte
                mute.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    mute.recv(1)
            healthy.standby.thaw()
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_killed_primary_restarts_and_goes_on() -> None:
    with pair() as made:
        port = made.primary.port
        made.primary.stop("kill")
        made.primary.start()
        assert made.primary.port == port
        made.primary.execute("CREATE TABLE rows (id int)")
        made.wait_caught_up()


def test_fail_over_and_rebuild_in_the_other_direction() -> None:
    with pair() as made:
        made.fail_over()
        assert made.primary.name == "amsterdam"
        assert not made.standby.running
        made.primary.execute("CREATE TABLE rows (id int)")
        made.attach()
        made.wait_caught_up()
        assert made.standby.is_standby()
        assert made.primary.value("SELECT timeline_id FROM pg_control_checkpoint()") == 2


def test_stranger_is_another_system_and_leaves_nothing() -> None:
    identity = "SELECT system_identifier FROM pg_control_system()"
    with standalone("one") as one, standalone("two") as two:
        assert one.value(identity) != two.value(identity)
        homes = [one.directory.parent, two.directory.parent]
        processes = [server.process.pid for server in (one, two) if server.process]
    assert not any(home.exists() for home in homes)
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


class Echo:
    """Sends back what it gets; knows how many connections came."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.came = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.came += 1
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    # close() alone would leave accept() waiting.
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as made:
        yield made


def through(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SOON)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "ended early"
        data += piece
    return data


class TestProxy:
    def test_pass_carries_much_and_both_ends(self, proxy: Proxy) -> None:
        sent = os.urandom(4_000_000)
        with through(proxy) as connection:
            writer = threading.Thread(target=connection.sendall, args=(sent,))
            writer.start()
            assert receive(connection, len(sent)) == sent
            writer.join()
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    def test_refuse_resets_what_is_open_and_what_comes(self, proxy: Proxy) -> None:
        with through(proxy) as connection:
            connection.sendall(b"a")
            assert connection.recv(1) == b"a"
            proxy.set("refuse")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        with pytest.raises(ConnectionResetError), through(proxy) as later:  # noqa: PT012
            later.sendall(b"b")
            later.recv(1)

    def test_black_hole_holds_what_is_open_and_what_comes(self, proxy: Proxy, echo: Echo) -> None:
        with through(proxy) as connection:
            connection.sendall(b"a")
            assert connection.recv(1) == b"a"
            proxy.set("blackhole")
            with through(proxy) as later:
                for each in (connection, later):
                    each.sendall(b"b")
                    each.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        each.recv(1)
                    each.settimeout(SOON)
                assert echo.came == 1
                assert proxy.connections == 2
                proxy.set("pass")
                assert connection.recv(1) == b"b"
                assert later.recv(1) == b"b"

    def test_slow_keeps_its_rate(self, proxy: Proxy) -> None:
        proxy.set("slow", rate=2000)
        with through(proxy) as connection:
            began = time.monotonic()
            connection.sendall(bytes(1000))
            receive(connection, 1000)
            took = time.monotonic() - began
        # 1000 bytes at 2000 a second; the ways there and back overlap.
        assert 0.4 <= took < SOON

    def test_dead_target_is_a_reset(self, proxy: Proxy) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            proxy.target = gone.getsockname()
        with pytest.raises(ConnectionResetError), through(proxy) as connection:  # noqa: PT012
            connection.sendall(b"a")
            connection.recv(1)

    def test_close_leaves_nothing_listening(self, proxy: Proxy) -> None:
        connection = through(proxy)
        proxy.close()
        with connection, pytest.raises(OSError, match=r"reset|refused"):
            connection.recv(1)
        with pytest.raises(ConnectionRefusedError):
            through(proxy)
