"""What comes of Patroni's answer, of CloudNativePG's names, and of everything else that may answer in Patroni's place?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from faults.postgresql import Script, Session, fake, mute, says
from regiondrift.catalog import Catalog
from regiondrift.clock import Clock
from regiondrift.config import ConfigurationError, load
from regiondrift.model import (
    Conninfo,
    Failure,
    Look,
    Members,
    ProbeError,
    Reason,
    RefusedValueError,
    RegionName,
    Target,
)
from regiondrift.schedule.guard import Guard
from regiondrift_collectors.postgresql import COLLECTOR
from regiondrift_collectors.postgresql.discovery import Discovery, member_target, members
from regiondrift_collectors.postgresql.options import Patroni

# Of a real Patroni 4.1.5, as tests/servers/patroni.py starts it.
ANSWER: dict[str, Any] = {
    "members": [
        {"name": "ams-1", "role": "replica", "state": "streaming", "api_url": "http://10.0.0.2:8008/patroni", "host": "10.0.0.2", "port": 5432, "timeline": 1, "tags": {"dc": "ams"}, "lag": 0, "lsn": "0/3000000"},
        {"name": "ymq-1", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni", "host": "10.0.0.1", "port": 5433, "timeline": 1, "tags": {"dc": "ymq"}},
    ],
    "scope": "orders",
}  # fmt: skip


def patroni(**more: Any) -> Patroni:
    by_name = {"ymq-*": RegionName("montreal"), "ams-*": RegionName("amsterdam")}
    options = {
        "regions": by_name,
        "urls": ("http://127.0.0.1:1",),
        "conninfo": Conninfo("dbname=postgres user=u"),
        **more,
    }
    return Patroni(**options)


def found(answer: object = ANSWER, listed: tuple[tuple[str, str], ...] = (), **more: Any) -> dict[str, Target | str]:
    """Each member's target, or why there is none."""
    asked = Target("orders", "patroni", "", Discovery(patroni(**more), frozenset(listed)), node=False)
    out: dict[str, Target | str] = {}
    for member in members(answer, asked.options.patroni).members:
        try:
            made = member_target(asked, member)
            out[member.name] = "not wanted" if made is None else made
        except RefusedValueError as error:
            out[member.name] = str(error)
    return out


def one(**its: Any) -> dict[str, Any]:
    return {"members": [{**ANSWER["members"][1], **its}]}


def test_each_member_is_a_node_where_patroni_says() -> None:
    target = found()["ymq-1"]
    assert isinstance(target, Target)
    assert (target.label, target.region, target.node) == ("orders/ymq-1", "montreal", True)
    given_ = conninfo_to_dict(target.options.conninfo.reveal())
    assert given_ == {
        "dbname": "postgres", "user": "u", "host": "10.0.0.1", "port": "5433", "require_auth": "!password",
    }  # fmt: skip


def test_what_the_configuration_says_of_authentication_holds() -> None:
    target = found(conninfo=Conninfo("user=u require_auth=password"))["ymq-1"]
    assert isinstance(target, Target)
    assert conninfo_to_dict(target.options.conninfo.reveal())["require_auth"] == "password"


def test_equal_answers_make_equal_targets() -> None:
    assert found() == found(json.loads(json.dumps(ANSWER)))


@pytest.mark.parametrize(
    ("more", "regions"),
    [
        ({}, ("montreal", "amsterdam")),
        ({"region": "montreal", "regions": None}, ("montreal", "montreal")),
        ({"regions": {"10.0.0.1": "montreal", "10.0.0.2": "amsterdam"}}, ("montreal", "amsterdam")),
        ({"region_tag": "dc", "regions": {"ymq": "montreal", "ams": "amsterdam"}}, ("montreal", "amsterdam")),
    ],
)
def test_a_region_is_told_by_name_host_or_tag(more: Mapping[str, Any], regions: tuple[str, str]) -> None:
    targets = found(**more)
    assert tuple(getattr(targets[name], "region", None) for name in ("ymq-1", "ams-1")) == regions


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"regions": {"x*": "montreal"}}, "no pattern of `regions` fits"),
        ({"regions": {"y*": "montreal", "*1": "amsterdam"}}, "patterns for amsterdam and montreal fit"),
        ({"region_tag": "rack", "regions": {"*": "montreal"}}, "(by its tag 'rack'): no pattern"),
    ],
)
def test_a_region_is_never_guessed(more: Mapping[str, Any], words: str) -> None:
    assert words in str(found(**more)["ymq-1"])


def test_members_of_two_clusters_may_be_named_alike() -> None:
    target = found(prefix="a:")["ymq-1"]
    assert isinstance(target, Target)
    assert (target.label, target.options.name) == ("orders/a:ymq-1", "a:ymq-1")


def test_what_is_ignored_or_listed_is_not_wanted() -> None:
    assert found(ignore=("ymq-?",))["ymq-1"] == "not wanted"
    assert found(listed=(("10.0.0.1", "5433"),))["ymq-1"] == "not wanted"
    assert isinstance(found(listed=(("10.0.0.1", "5432"),))["ymq-1"], Target)


@pytest.mark.parametrize(
    "host", ["/tmp", "@abstract", "a,b", "a b", "", ".", "a..b", "x=y", "'", "a" * 64, "user@db", 7, None, [], {}]
)
def test_a_host_that_is_none_is_nowhere_to_connect_to(host: object) -> None:
    assert isinstance(found(one(host=host))["ymq-1"], str)


@pytest.mark.parametrize("host", ["db-1.ymq.example", "localhost", "10.0.0.1", "fd00::1", "db."])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert isinstance(found(one(host=host))["ymq-1"], Target)


@pytest.mark.parametrize("port", [0, -1, 65536, "5432", 5432.5, True, None, []])
def test_a_port_is_a_number(port: object) -> None:
    assert isinstance(found(one(port=port))["ymq-1"], str)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 201, 7, None])
def test_a_name_that_cannot_be_a_label_is_refused(name: object) -> None:
    with pytest.raises(ProbeError, match="refused_value"):
        found(one(name=name))


def test_nobody_is_meant_twice() -> None:
    with pytest.raises(ProbeError, match="two members have one name"):
        found({"members": [ANSWER["members"][0]] * 2})


def test_more_than_can_be_is_refused() -> None:
    with pytest.raises(ProbeError, match="501 members"):
        found({"members": [{"name": f"n{i}"} for i in range(501)]})


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"members": None}, {"members": {}}, {"members": [], "scope": 1}, "x", 1]
)
def test_an_answer_that_is_none_is_no_empty_cluster(answer: object) -> None:
    with pytest.raises(ProbeError, match="protocol"):
        found(answer)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "host", "port", "tags", "members", "scope"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(st.one_of(ANYTHING, st.fixed_dictionaries({"members": st.lists(ANYTHING, max_size=4)})))
def test_whatever_is_answered_ends_classified(answer: object) -> None:
    try:
        targets = found(answer)
    except ProbeError:
        return
    for target in targets.values():
        assert isinstance(target, (str, Target))


# ---- over HTTP


def http(body: bytes | str, status: str = "200 OK", headers: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{headers}\r\n".encode() + raw


def answers(raw: bytes, requests: list[bytes] | None = None) -> Script:
    """Answers a request with that, and closes."""

    async def script(session: Session) -> None:
        asked = await session.reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(asked)
        await session.send(raw)

    return script


GOOD = http(json.dumps(ANSWER))


async def look(*ports: int, within: float = 5.0, scheme: str = "http", **more: Any) -> Look | Failure:
    asked = patroni(urls=tuple(f"{scheme}://127.0.0.1:{port}" for port in ports), **more)
    files = (more["api"].password_file,) if more.get("api") else ()
    target = Target("orders", "patroni", "", Discovery(asked), files, node=False)
    guard = Guard(COLLECTOR, target, within, Clock())
    try:
        return (await guard.look()).result
    finally:
        await guard.close()


async def test_a_good_answer_is_understood() -> None:
    requests: list[bytes] = []
    with fake(answers(GOOD, requests)) as server:
        result = await look(server.port)
    assert isinstance(result, Look)
    (observation,) = result.observations
    assert isinstance(observation, Members)
    assert observation.group == "orders"
    assert [member.name for member in observation.members] == ["ams-1", "ymq-1"]
    assert result.notes is not None
    assert result.notes["leader"] == "ymq-1"
    assert requests[0].startswith(b"GET /cluster HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answers(b""), Reason.UNREACHABLE),
        (answers(http("no", "503 Service Unavailable")), Reason.UNREACHABLE),
        (answers(http("no", "401 Unauthorized")), Reason.AUTHENTICATION),
        (answers(http("no", "403 Forbidden")), Reason.PERMISSION),
        (answers(http("no", "404 Not Found")), Reason.PROTOCOL),
        (answers(http("", "302 Found", "Location: http://127.0.0.1:1/\r\n")), Reason.PROTOCOL),
        (answers(http("<html>")), Reason.PROTOCOL),
        (answers(http("{}")), Reason.PROTOCOL),
        (answers(http("[" * 100_000)), Reason.PROTOCOL),
        (answers(http(b"\xff\xfe{")), Reason.PROTOCOL),
        (answers(http(b" " * (1 << 21))), Reason.PROTOCOL),
        (answers(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Reason.PROTOCOL),
        (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Reason.PROTOCOL),
        (answers(GOOD[:-10]), Reason.PROTOCOL),
        (answers(http(json.dumps({**ANSWER, "members": [{"name": "a/b"}]}))), Reason.REFUSED_VALUE),
        (mute, Reason.TIMEOUT),
    ],
)
async def test_what_is_no_patroni_has_its_reason(script: Script, reason: Reason) -> None:
    with fake(script) as server:
        result = await look(server.port, within=0.5 if reason is Reason.TIMEOUT else 5.0)
    assert isinstance(result, Failure), result
    assert result.reason is reason, result


async def test_nobody_there_is_unreachable() -> None:
    result = await look(1)
    assert isinstance(result, Failure)
    assert result.reason is Reason.UNREACHABLE


async def test_one_that_does_not_speak_tls_is_not_asked_without() -> None:
    requests: list[bytes] = []

    async def plain(session: Session) -> None:
        """Says what an HTTP server says to a handshake."""
        requests.append(await session.reader.read(4096))
        await session.send(http("no", "400 Bad Request"))

    with fake(plain) as server:
        result = await look(server.port, scheme="https")
    assert isinstance(result, Failure)
    assert result.reason is Reason.TLS
    assert b"/cluster" not in b"".join(requests)


async def test_another_member_answers_for_one_that_is_down_or_mute() -> None:
    with fake(mute) as silent, fake(answers(GOOD)) as server:
        assert isinstance(await look(1, server.port), Look)
        assert isinstance(await look(silent.port, server.port), Look)


async def test_the_one_that_answered_is_asked_first_next_time() -> None:
    with fake(mute) as silent, fake(answers(GOOD)) as server:
        asked = patroni(urls=(f"http://127.0.0.1:{silent.port}", f"http://127.0.0.1:{server.port}"))
        guard = Guard(COLLECTOR, Target("orders", "patroni", "", Discovery(asked), node=False), 5.0, Clock())
        for _ in range(3):
            assert isinstance((await guard.look()).result, Look)
        await guard.close()
        assert (silent.total, server.total) == (1, 3)


async def test_what_tells_more_than_that_it_is_down_is_told() -> None:
    with fake(answers(http("no", "401 Unauthorized"))) as server:
        result = await look(1, server.port)
    assert isinstance(result, Failure)
    assert result.reason is Reason.AUTHENTICATION


async def test_credentials_are_read_at_each_look_and_never_shown(tmp_path: Path) -> None:
    from regiondrift.model import SecretFile
    from regiondrift_collectors.postgresql.options import PatroniAPI

    secret = tmp_path / "secret"
    api = PatroniAPI(username="watcher", password_file=SecretFile(str(secret)))
    requests: list[bytes] = []
    with fake(answers(http("no", "401 Unauthorized"), requests)) as server:
        missing = await look(server.port, api=api)
        secret.write_text("hunter2\n")
        refused = await look(server.port, api=api)
    assert isinstance(missing, Failure)
    assert isinstance(refused, Failure)
    assert (missing.reason, refused.reason) == (Reason.AUTHENTICATION, Reason.AUTHENTICATION)
    assert "hunter2" not in refused.detail
    assert b"Authorization: Basic d2F0Y2hlcjpodW50ZXIy\r\n" in requests[0]


async def test_a_look_that_is_cut_short_leaves_nothing_behind() -> None:
    with fake(mute) as server:
        for _ in range(3):
            result = await look(server.port, within=0.1)
            assert isinstance(result, Failure)
            assert result.detail == "no answer within 0.1 s"
        async with asyncio.timeout(5):
            while server.open:  # noqa: ASYNC110 - it is told on another thread
                await asyncio.sleep(0.002)


# ---- in the configuration

ENTRY = """version: 1
regions: [montreal, amsterdam]
postgresql:
  - name: orders
"""


def plans(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "regiondrift.yaml"
    file.write_text(ENTRY + text)
    return load(file, Catalog()).plans[0]


def test_cloudnativepg_is_its_primarys_service(tmp_path: Path) -> None:
    plan = plans(
        tmp_path,
        """    cloudnativepg:
      - {cluster: orders, namespace: db, region: montreal, conninfo: user=u}
      - {cluster: orders, name: far, namespace: db, domain: svc.clusterset.local, region: amsterdam, conninfo: "user=u port=5433"}
""",
    )
    assert [(t.label, t.region) for t in plan.targets] == [("orders/orders", "montreal"), ("orders/far", "amsterdam")]
    near, far = (conninfo_to_dict(t.options.conninfo.reveal()) for t in plan.targets)
    assert near == {"user": "u", "host": "orders-rw.db.svc"}
    assert far == {"user": "u", "host": "orders-rw.db.svc.clusterset.local", "port": "5433"}


def test_nodes_that_are_listed_and_discovered_stand_together(tmp_path: Path) -> None:
    plan = plans(
        tmp_path,
        """    nodes: [{name: n, region: montreal, conninfo: "host=A,b port=1,2 hostaddr=10.0.0.1"}]
    patroni: [{urls: ["http://p:8008"], region: amsterdam, conninfo: user=u}]
""",
    )
    assert [(t.label, t.node) for t in plan.targets] == [("orders/n", True), ("orders/patroni", False)]
    assert plan.targets[1].options.listed == {("a", "1"), ("b", "2"), ("10.0.0.1", "1")}


GOOD_PATRONI = {"urls": '["http://p"]', "region": "montreal", "conninfo": "user=u"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"urls": "[]"}, "at least one is needed"),
        ({"urls": '["pg:8008"]'}, "http:// or https://"),
        ({"urls": '["http://u:hunter2@p"]'}, "http:// or https://"),
        ({"urls": '["http://p/cluster"]'}, "http:// or https://"),
        ({"urls": '["http://p:99999"]'}, "http:// or https://"),
        ({"regions": "{x: montreal}"}, "one of `region`"),
        ({"region": None}, "one of `region`"),
        ({"region": None, "regions": "{x: montreaal}"}, "none of the regions, did you mean 'montreal'"),
        ({"region_tag": "dc"}, "`regions` is needed, too"),
        ({"conninfo": "host=x"}, "host cannot stand here"),
        ({"conninfo": "postgresql://u:hunter2@x/db"}, "host cannot stand here"),
        ({"conninfo": '"password=hunter2 what"'}, "is missing after keyword 2"),
        ({"api": "{username: u}"}, "come together"),
        ({"api": "{key_file: /k}"}, "`cert_file` is needed"),
        ({"name": "a/b"}, "without '/'"),
    ],
)
def test_a_mistake_is_told_and_no_secret_with_it(tmp_path: Path, changed: dict[str, str | None], words: str) -> None:
    keys = {key: value for key, value in {**GOOD_PATRONI, **changed}.items() if value is not None}
    with pytest.raises(ConfigurationError) as raised:
        plans(tmp_path, "    patroni:\n      - {" + ", ".join(f"{k}: {v}" for k, v in keys.items()) + "}\n")
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert "hunter2" not in str(raised.value)


def test_two_clusters_of_one_entry_need_two_names(tmp_path: Path) -> None:
    each = "{" + ", ".join(f"{k}: {v}" for k, v in GOOD_PATRONI.items()) + "}"
    with pytest.raises(ConfigurationError, match="'patroni' stands in this entry twice"):
        plans(tmp_path, f"    patroni: [{each}, {each}]\n")


def test_cloudnativepgs_names_are_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a name that Kubernetes would take"):
        plans(tmp_path, "    cloudnativepg: [{cluster: 'a b', namespace: n, region: montreal, conninfo: user=u}]\n")
