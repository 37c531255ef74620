"""What can be configured of PostgreSQL? Entries are systems; their nodes are listed or discovered, and their roles discovered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ProgrammingError

from regiondrift.model import Conninfo, Duration, EntryOptions, RegionName, SecretFile, option

_Problem: TypeAlias = tuple[tuple[str | int, ...], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server of the system."""

    name: str = option("Name of the node; the label `replica` of its series.")
    region: RegionName = option("Region that it stands in.")
    conninfo: Conninfo = option(
        "libpq connection string, as keywords or as a URI.", example="host=pg.ymq dbname=postgres user=regiondrift"
    )
    password_file: SecretFile | None = option(
        "File with the password, read at each new connection.", default=None, example="/run/secrets/pg"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatroniAPI:
    """How Patroni's REST API is reached where it demands more than an address."""

    ca_file: SecretFile | None = option(
        "Certificate authorities that may have signed its certificate. Default: the system's.", default=None
    )
    cert_file: SecretFile | None = option("Our certificate, where Patroni verifies its clients.", default=None)
    key_file: SecretFile | None = option("Its key. Default: it stands in `cert_file`, too.", default=None)
    username: str | None = option("User of HTTP basic authentication.", default=None)
    password_file: SecretFile | None = option("File with that user's password, read at each look.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patroni:
    """One Patroni cluster. Its standby cluster in another region is another one of the same entry."""

    name: str = option("Name of the target that asks it. Two clusters of one entry need two.", default="patroni")
    urls: tuple[str, ...] = option(
        "REST API of members, any of which may answer; `/cluster` is asked.", example="[https://pg-1.ymq:8008]"
    )
    scope: str | None = option("Patroni's scope that must answer. Default: the first that did.", default=None)
    region: RegionName | None = option("Region that all its members stand in.", default=None, example="montreal")
    regions: Mapping[str, RegionName] | None = option(
        "Region by pattern (`*`, `?`), of which one must fit a member's name, its host, or its tag `region_tag`.",
        default=None,
        example="{ymq-*: montreal, ams-*: amsterdam}",
    )
    region_tag: str | None = option("Patroni tag that `regions` is about.", default=None, example="datacenter")
    conninfo: Conninfo = option(
        "libpq connection string without host and port, which Patroni tells.",
        example="dbname=postgres user=regiondrift",
    )
    password_file: SecretFile | None = option(
        "File with the password of PostgreSQL's role, read at each new connection.",
        default=None,
        example="/run/secrets/pg",
    )
    prefix: str = option(
        "What the names of nodes begin with, before the member's name: for clusters that name members alike.",
        default="",
    )
    ignore: tuple[str, ...] = option(
        "Members, by pattern, that are not looked at; also one that is gone for good.", default=()
    )
    forget_after: Duration | None = option(
        "How long a member that Patroni names no more is still expected. Default: for ever.", default=None, example="7d"
    )
    api: PatroniAPI = option(
        "What its REST API demands.", default=PatroniAPI(), example="{ca_file: /etc/patroni/ca.crt}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudNativePG:
    """One CloudNativePG cluster, of which the service CLUSTER-rw leads to the primary: one node."""

    cluster: str = option("Name of the Cluster.")
    namespace: str = option("Its namespace.")
    region: RegionName = option("Region that it stands in.")
    name: str | None = option("Name of the node. Default: the cluster's.", default=None)
    domain: str = option(
        "What follows the namespace in the service's host name; for another Kubernetes cluster whatever leads there.",
        default="svc",
        example="svc.clusterset.local",
    )
    conninfo: Conninfo = option("libpq connection string without host.", example="dbname=postgres user=regiondrift")
    password_file: SecretFile | None = option(
        "File with the password, read at each new connection.", default=None, example="/run/secrets/pg"
    )

    @property
    def node(self) -> str:
        return self.name if self.name is not None else self.cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(EntryOptions):
    """One system: servers that share a system identifier and replicate from each other by streaming WAL."""

    recovery_point: Duration | None = option(
        "Recovery point objective. Default: `objectives.recovery_point`.", default=None, example="30s"
    )
    system_identifier: str | None = option(
        "System identifier that the nodes must have. Default: the remembered one, else that of the earliest listed node that answers.",
        default=None,
    )
    nodes: tuple[Node, ...] = option("The servers, source or replica, that are not discovered.", default=())
    patroni: tuple[Patroni, ...] = option("Patroni clusters whose members are nodes.", default=())
    cloudnativepg: tuple[CloudNativePG, ...] = option("CloudNativePG clusters whose primaries are nodes.", default=())

    def problems(self) -> Iterable[_Problem]:
        if not (self.nodes or self.patroni or self.cloudnativepg):
            yield ("nodes",), "at least one node is needed, or `patroni` or `cloudnativepg`"
        named: list[tuple[tuple[str | int, ...], str]] = []
        named += [(("nodes", i, "name"), node.name) for i, node in enumerate(self.nodes)]
        named += [(("cloudnativepg", i, "name"), each.node) for i, each in enumerate(self.cloudnativepg)]
        named += [(("patroni", i, "name"), each.name) for i, each in enumerate(self.patroni)]
        times: Counter[str] = Counter()
        for path, name in named:
            if not part(name):
                yield path, "a node's name is 1 to 200 printable characters without '/'"
            if times[name]:
                yield path, f"node {name!r} stands in this entry twice"
            times[name] += 1
        for i, patroni in enumerate(self.patroni):
            yield from ((("patroni", i, *path), words) for path, words in _of_patroni(patroni))
        for i, each in enumerate(self.cloudnativepg):
            yield from ((("cloudnativepg", i, *path), words) for path, words in _of_cloudnativepg(each))
        if self.system_identifier is not None and not self.system_identifier.isdecimal():
            yield ("system_identifier",), "a system identifier is a number, as pg_controldata prints it"


def part(name: str) -> bool:
    """Whether a node may be called so: it becomes a label, and part of a target's name."""
    return 0 < len(name) <= 200 and "/" not in name and name.isprintable()


def _of_patroni(patroni: Patroni) -> Iterator[_Problem]:
    if not patroni.urls:
        yield ("urls",), "at least one is needed"
    for i, url in enumerate(patroni.urls):
        if not _is_address(url):
            # It may hold a password: it is not repeated.
            yield ("urls", i), "http:// or https://, a host, and perhaps a port are needed, and nothing more"
    if (patroni.region is None) is (patroni.regions is None):
        yield ("regions",), "one of `region` (of all members) and `regions` (by pattern) is needed"
    if patroni.region_tag is not None and patroni.regions is None:
        yield ("region_tag",), "`regions` is needed, too: from the tag's values to regions"
    if (patroni.api.username is None) is not (patroni.api.password_file is None):
        yield ("api", "username"), "user name and password file come together"
    if patroni.api.key_file is not None and patroni.api.cert_file is None:
        yield ("api", "key_file"), "`cert_file` is needed, too"
    yield from _of_template(patroni.conninfo, ("host", "hostaddr", "port"), "Patroni tells host and port")


def _of_cloudnativepg(cluster: CloudNativePG) -> Iterator[_Problem]:
    for key, text in (("cluster", cluster.cluster), ("namespace", cluster.namespace), ("domain", cluster.domain)):
        if not all(is_label(label) for label in text.split(".")) or (key != "domain" and "." in text):
            yield (key,), "not a name that Kubernetes would take"
    yield from _of_template(cluster.conninfo, ("host", "hostaddr"), "the service is the host")


def _of_template(conninfo: Conninfo, taken: tuple[str, ...], why: str) -> Iterator[_Problem]:
    try:
        given = conninfo_to_dict(conninfo.reveal())
    except ProgrammingError:
        # libpq's message quotes the string, and with it a password.
        yield ("conninfo",), "not a connection string"
        return
    for key in taken:
        if given.get(key) is not None:
            yield ("conninfo",), f"{key} cannot stand here: {why}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    bare = not (parts.query or parts.fragment or parts.username is not None or parts.path.strip("/"))
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and bare


def is_label(text: str) -> bool:
    """Whether it can be one label of a host's name."""
    return 0 < len(text) <= 63 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
