"""What do changes in a row come to? Whatever waits in between: the same as a plain dictionary changed step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiondrift.state import Backlog, Change, Key, Remembered, StateFile
from regiondrift.state.change import MAX_DELETES

KEY = Key("postgresql", "orders")
NUMBERS = st.integers(0, 12)
TEXTS = st.text(max_size=3)
KEYS = st.sampled_from([KEY, Key("postgresql", "users"), Key("mysql", "orders")])

changes = st.builds(
    Change,
    KEYS,
    st.none() | TEXTS,
    st.dictionaries(NUMBERS, TEXTS, max_size=4),
    st.frozensets(NUMBERS, max_size=4),
    st.sampled_from([False, False, False, True]),
)


class Model:
    """The same in five obvious lines."""

    def __init__(self) -> None:
        self.documents: dict[Key, str | None] = {}
        self.rows: dict[Key, dict[int, str]] = {}

    def apply(self, change: Change) -> None:
        rows = self.rows.setdefault(change.key, {})
        if change.clear:
            rows.clear()
        for number in change.deletes:
            rows.pop(number, None)
        rows.update(change.upserts)
        self.documents[change.key] = change.document if change.document is not None else self.documents.get(change.key)

    def remembered(self, key: Key) -> Remembered:
        return Remembered(self.documents.get(key), tuple(sorted(self.rows.get(key, {}).items())))


@given(st.lists(st.tuples(changes, st.booleans()), max_size=30))
def test_any_grouping_into_transactions_gives_the_same_memory(steps: list[tuple[Change, bool]]) -> None:
    model, file, backlog = Model(), StateFile.in_memory(), Backlog()
    for change, write_now in steps:
        model.apply(change)
        backlog.add(change)
        if write_now:
            file.write(backlog.changes())
            backlog.clear()
        for key in model.documents:
            assert backlog.over(key, file.load(key)) == model.remembered(key)
    file.write(backlog.changes())
    assert {key: file.load(key) for key in model.documents} == {key: model.remembered(key) for key in model.documents}
    assert file.keys() == model.documents.keys()
    file.close()


@given(st.lists(changes, min_size=1, max_size=20))
def test_what_waits_is_one_change_per_key(steps: list[Change]) -> None:
    backlog = Backlog()
    for change in steps:
        backlog.add(change)
    assert len(backlog) == len({c.key for c in steps}) == len(backlog.changes())


def test_within_one_change_clear_comes_first_and_upserts_last() -> None:
    file = StateFile.in_memory()
    file.write([Change(KEY, upserts={1: "old", 2: "old"})])
    file.write([Change(KEY, upserts={2: "new", 3: "new"}, deletes=(2, 3), clear=True)])
    assert file.load(KEY).rows == ((2, "new"), (3, "new"))


def test_a_change_without_a_document_leaves_the_document() -> None:
    file = StateFile.in_memory()
    file.write([Change(KEY, "{}")])
    file.write([Change(KEY, upserts={1: "a"})])
    assert file.load(KEY) == Remembered("{}", ((1, "a"),))


def test_while_nothing_is_written_deletes_are_bounded_and_no_deleted_row_returns() -> None:
    backlog = Backlog()
    before = Remembered("{}", tuple((n, "in the file") for n in range(MAX_DELETES + 10)))
    for n in range(MAX_DELETES + 1):
        backlog.add(Change(KEY, deletes=(n,)), bounded=True)
    backlog.add(Change(KEY, upserts={10**6: "since"}), bounded=True)
    (change,) = backlog.changes()
    assert change.clear
    assert not change.deletes
    assert backlog.over(KEY, before) == Remembered("{}", ((10**6, "since"),))


def test_many_deletes_at_once_are_no_reason_to_give_rows_up() -> None:
    file = StateFile.in_memory()
    file.write([Change(KEY, upserts=dict.fromkeys(range(3 * MAX_DELETES), "x"))])
    file.write([Change(KEY, deletes=range(2 * MAX_DELETES))])
    assert len(file.load(KEY).rows) == MAX_DELETES


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Change(KEY, upserts={2**63: "too great a number"}),
        lambda: Change(KEY, upserts={1: "\ud800"}),
        lambda: Change(KEY, "\ud800"),
        lambda: Change(Key("postgresql", "\ud800")),
    ],
)
def test_what_could_never_be_written_is_refused_where_it_is_made(refused) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeEncodeError is one, too
        refused()
