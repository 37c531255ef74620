"""Which servers belong to a system? From what Patroni says, and from how CloudNativePG names its services, to nodes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import ProgrammingError

from regiondrift.model import (
    Conninfo,
    Member,
    Members,
    ProbeError,
    Reason,
    RefusedValueError,
    RegionName,
    Target,
)
from regiondrift_collectors.postgresql.connection import files
from regiondrift_collectors.postgresql.options import CloudNativePG, Node, Options, Patroni, is_label, part

MOST_MEMBERS: Final = 500
PORT: Final = "5432"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a target that asks Patroni is about."""

    patroni: Patroni
    listed: frozenset[tuple[str, str]] = frozenset()
    """Hosts and ports of the entry's other nodes: those are looked at already."""


# ---- from options


def asking(options: Options) -> Iterator[Target]:
    """The targets that ask Patroni, one per cluster."""
    listed = frozenset(address for node in known(options) for address in _addresses(node))
    for patroni in options.patroni:
        api = patroni.api
        files = [str(f) for f in (api.password_file, api.ca_file, api.cert_file, api.key_file) if f]
        where = Discovery(patroni, listed)
        yield Target(options.name, patroni.name, patroni.region or "", where, tuple(files), node=False)


def known(options: Options) -> tuple[Node, ...]:
    """Those that are known without asking anybody."""
    return (*options.nodes, *(_service(each) for each in options.cloudnativepg))


def _service(each: CloudNativePG) -> Node:
    """The primary: of the three services only -rw leads to one server. Behind -ro and -r stand several, whose copies
    would be taken for one that goes back and forth."""
    host = f"{each.cluster}-rw.{each.namespace}.{each.domain}"
    conninfo = Conninfo(make_conninfo(each.conninfo.reveal(), host=host))
    return Node(name=each.node, region=each.region, conninfo=conninfo, password_file=each.password_file)


def _addresses(node: Node) -> Iterator[tuple[str, str]]:
    try:
        given = conninfo_to_dict(node.conninfo.reveal())
    except ProgrammingError:
        return
    ports = str(given.get("port") or PORT).split(",")
    for key in ("host", "hostaddr"):
        for i, host in enumerate(str(given.get(key) or "").split(",")):
            yield host.lower(), ports[i] if i < len(ports) else ports[-1]


# ---- from Patroni's answer


def members(answer: object, patroni: Patroni) -> Members:
    """What ``GET /cluster`` says.

    Raises:
        ProbeError: that is no such answer, or another cluster's.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("members"), list):
        raise ProbeError(Reason.PROTOCOL, "the answer is not that of Patroni's /cluster")
    scope = answer.get("scope", "")
    if not isinstance(scope, str):
        raise ProbeError(Reason.PROTOCOL, "the scope is no text")
    if patroni.scope is not None and scope not in ("", patroni.scope):
        raise ProbeError(Reason.WRONG_SYSTEM, f"the scope is {scope[:100]!r}, not {patroni.scope!r}")
    listed = answer["members"]
    if len(listed) > MOST_MEMBERS:
        raise ProbeError(Reason.REFUSED_VALUE, f"{len(listed)} members are more than {MOST_MEMBERS}")
    found = {member.name: member for member in (_member(each, patroni) for each in listed)}
    if len(found) != len(listed):
        raise ProbeError(Reason.REFUSED_VALUE, "two members have one name")
    return Members(
        tuple(found.values()),
        group=scope,
        configured=patroni.scope is not None,
        forget_after=patroni.forget_after,
    )


def leader(answer: Mapping[str, Any]) -> str:
    """The member that Patroni calls so; empty if none."""
    return next((str(m["name"]) for m in answer["members"] if m.get("role") in ("leader", "standby_leader")), "")


def _member(each: object, patroni: Patroni) -> Member:
    if not isinstance(each, dict) or not isinstance(each.get("name"), str) or not part(each["name"]):
        raise ProbeError(Reason.REFUSED_VALUE, "a member without a name that can be shown")
    host, port, tags = each.get("host"), each.get("port", int(PORT)), each.get("tags")
    if host is None:
        return Member(each["name"], "")
    about = {"host": host, "port": port}
    if patroni.region_tag is not None and isinstance(tags, dict) and patroni.region_tag in tags:
        about["tag"] = str(tags[patroni.region_tag])
    return Member(each["name"], json.dumps(about, sort_keys=True))


def member_target(target: Target, member: Member) -> Target | None:
    """What is to be looked at of a member; None if that is not wanted, or done already.

    Raises:
        RefusedValueError: it has no address, or no region.
    """
    discovery: Discovery = target.options
    patroni = discovery.patroni
    if any(fnmatchcase(member.name, pattern) for pattern in patroni.ignore):
        return None
    host, port, tag = _address(member)
    if (host.lower(), port) in discovery.listed:
        return None
    region = patroni.region or _region(patroni, member.name, host, tag)
    given = {
        # What anybody answers in Patroni's place must not make us tell the password as it stands.
        "require_auth": "!password",
        **{k: v for k, v in conninfo_to_dict(patroni.conninfo.reveal()).items() if v is not None},
        "host": host,
        "port": port,
    }
    made = Node(
        name=patroni.prefix + member.name,
        region=region,
        conninfo=Conninfo(make_conninfo("", **given)),
        password_file=patroni.password_file,
    )
    if not part(made.name):
        raise RefusedValueError(f"{made.name!r} cannot be a node's name")
    return Target(target.entry, made.name, made.region, made, files(made))


def _address(member: Member) -> tuple[str, str, str | None]:
    if not member.about:
        raise RefusedValueError(f"member {member.name!r} has no address yet")
    try:
        about = json.loads(member.about)
        host, port, tag = about["host"], about["port"], about.get("tag")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RefusedValueError(f"what is known of member {member.name!r} cannot be read") from None
    if not isinstance(host, str) or not _is_host(host):
        # Not a socket's path, nor a list: it comes from the network, and libpq would take it for what it looks like.
        raise RefusedValueError(f"the host of member {member.name!r} is neither a name nor an address")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise RefusedValueError(f"the port of member {member.name!r} is none")
    return host, str(port), tag if isinstance(tag, str) else None


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and all(is_label(label) for label in text.removesuffix(".").split("."))
    return True


def _region(patroni: Patroni, name: str, host: str, tag: str | None) -> RegionName:
    about = (name, host) if patroni.region_tag is None else (tag,)
    found = {
        region
        for pattern, region in (patroni.regions or {}).items()
        if any(text is not None and fnmatchcase(text, pattern) for text in about)
    }
    if len(found) != 1:
        why = "no pattern of `regions` fits" if not found else f"patterns for {' and '.join(sorted(found))} fit"
        what = "" if patroni.region_tag is None else f" (by its tag {patroni.region_tag!r})"
        raise RefusedValueError(f"member {name!r}{what}: {why}")
    return found.pop()
