"""What may be configured of PostgreSQL, and what comes of it?"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from regiondrift.model import Conninfo, Duration, Objectives, RegionName, SecretFile
from regiondrift_collectors.postgresql import COLLECTOR, plan
from regiondrift_collectors.postgresql.connection import files
from regiondrift_collectors.postgresql.options import Node, Options


def node(name: str, conninfo: str = "host=db", password_file: str | None = None) -> Node:
    secret = SecretFile(password_file) if password_file else None
    return Node(name=name, region=RegionName("montreal"), conninfo=Conninfo(conninfo), password_file=secret)


def options(*nodes: Node, recovery_point: float | None = None, system: str | None = None) -> Options:
    point = Duration(recovery_point) if recovery_point else None
    return Options(name="orders", nodes=nodes, recovery_point=point, system_identifier=system)


def test_nodes_that_can_be_told_apart_are_fine() -> None:
    assert list(options(node("a"), node("b"), system="7549262912316350501").problems()) == []


def test_an_entry_without_nodes_watches_nothing() -> None:
    assert list(options().problems()) == [(("nodes",), "at least one node is needed, or `patroni` or `cloudnativepg`")]


def test_a_node_is_named_once() -> None:
    assert [path for path, _ in options(node("a"), node("b"), node("a")).problems()] == [("nodes", 2, "name")]


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 201, "\x00"])
def test_a_nodes_name_can_be_a_label_and_part_of_a_target(name: str) -> None:
    assert ("nodes", 0, "name") in [path for path, _ in options(node(name)).problems()]


@pytest.mark.parametrize("system", ["", "-1", "12.5", "abc", "0x10"])
def test_a_system_identifier_is_a_number(system: str) -> None:
    assert [path for path, _ in options(node("a"), system=system).problems()] == [("system_identifier",)]


def test_each_node_is_a_target_and_the_entry_is_their_link() -> None:
    a, b = node("a", password_file="/run/secrets/pg"), node("b")
    targets, link = plan(options(a, b, recovery_point=30.0, system="7"), Objectives(recovery_point=60.0))
    assert [(t.label, t.region, t.options, t.files) for t in targets] == [
        ("orders/a", "montreal", a, ("/run/secrets/pg",)),
        ("orders/b", "montreal", b, ()),
    ]
    assert link is not None
    assert (link.system, link.objective, link.identity) == (COLLECTOR.name, 30.0, "7")


def test_the_documents_objective_holds_where_the_entry_has_none() -> None:
    link = plan(options(node("a")), Objectives(recovery_point=60.0))[1]
    assert link is not None
    assert link.objective == 60.0
    link = plan(options(node("a")), Objectives())[1]
    assert link is not None
    assert link.objective is None


def test_equal_options_are_the_same_target_and_another_password_is_another() -> None:
    one, same, other = (plan(options(node("a", f"password={p}")), Objectives())[0] for p in ("x", "x", "y"))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("conninfo", "password_file", "named"),
    [
        ("host=db", None, ()),
        ("host=db", "/pw", ("/pw",)),
        ("host=db passfile=/pass sslcert=/c sslkey=/k sslrootcert=/ca sslcrl=/crl", "/pw", ("/pw", "/pass", "/c", "/k", "/ca", "/crl")),
        ("host=db sslrootcert=system", None, ()),
        ("postgresql://u@db/x?sslrootcert=/ca", None, ("/ca",)),
        ("this is no conninfo", "/pw", ("/pw",)),
    ],
)  # fmt: skip
def test_the_files_whose_change_is_worth_another_try(
    conninfo: str, password_file: str | None, named: tuple[str, ...]
) -> None:
    assert files(node("a", conninfo, password_file)) == named


def test_a_password_in_a_conninfo_is_never_shown() -> None:
    made = options(node("a", "host=db password=hunter2"))
    targets, link = plan(made, Objectives())
    for shown in (repr(made), str(made), repr(targets), str(link), f"{made.nodes[0].conninfo}", repr(Path("x"))):
        assert "hunter2" not in shown
    assert b"hunter2" not in pickle.dumps(made.nodes[0].conninfo)
