"""How do the tables look, and is this file sound? The schema, its migrations, and the check at each start."""

from __future__ import annotations

import sqlite3
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from regiondrift.state.change import Change, Key, Remembered

APPLICATION_ID: Final = 0x72676472  # "rgdr"
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE entry (
            id INTEGER PRIMARY KEY,
            collector TEXT NOT NULL CHECK (typeof(collector) = 'text'),
            entry TEXT NOT NULL CHECK (typeof(entry) = 'text'),
            document TEXT CHECK (typeof(document) IN ('text', 'null')),
            sum INTEGER NOT NULL CHECK (typeof(sum) = 'integer'),
            written REAL NOT NULL CHECK (typeof(written) = 'real'),
            UNIQUE (collector, entry)
        )""",
        """CREATE TABLE line (
            entry INTEGER NOT NULL CHECK (typeof(entry) = 'integer'),
            number INTEGER NOT NULL CHECK (typeof(number) = 'integer'),
            text TEXT NOT NULL CHECK (typeof(text) = 'text'),
            sum INTEGER NOT NULL CHECK (typeof(sum) = 'integer'),
            PRIMARY KEY (entry, number)
        ) WITHOUT ROWID""",
    ),
)
"""Item n leads from version n (``user_version``) to n + 1; version 0 is an empty file. `sum` is a CRC-32 of the text
and of whose it is, for SQLite itself does not notice a flipped bit inside a value, and a flipped bit is a false proof."""
VERSION: Final = len(MIGRATIONS)

CHECKPOINT_PAGES: Final = 1000
JOURNAL_BYTES: Final = 8 << 20
"""What the -wal file is cut to after a checkpoint that found it longer."""

COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite appends to the file's name."""

_WAL_FORMAT: Final = 2

# Of SQLite's primary result codes: ERROR (no such table), CORRUPT, MISMATCH, NOTADB.
_DAMAGE: Final = frozenset({1, 11, 20, 26})


class DamagedError(Exception):
    """The file cannot be used as it stands, and no waiting helps: not a database, damaged, not ours, from the future."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, and not the disk, the permissions or another process."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _DAMAGE


def create(path: Path) -> None:
    """Make a new file. It appears under its name when it is complete."""
    unfinished = path.with_name(path.name + ".new")
    for leftover in (unfinished, *companions(unfinished)):
        leftover.unlink(missing_ok=True)
    db = _connect(unfinished, "rwc")
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        prepare(db)
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()
    unfinished.rename(path)


def open_existing(path: Path) -> sqlite3.Connection:
    """The checked, current database at `path`.

    Raises:
        DamagedError: see there.
        sqlite3.Error, OSError: it could not be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode) and not path.is_file():
        raise DamagedError("not a regular file")
    with path.open("rb") as stream:
        header = stream.read(20)
    if header.startswith(b"SQLite format 3\0") and max(header[18:20], default=0) > _WAL_FORMAT:
        # SQLite would open it and refuse every write.
        raise DamagedError("damaged, or written by a newer SQLite")
    db = _connect(path, "rw")
    try:
        # The wal-index then lives in our memory: no mapped -shm file that a full disk turns into SIGBUS. Readers of
        # a running exporter take a copy (see snapshot.py).
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        check(db)
        db.execute("PRAGMA journal_mode = WAL")
        # A commit is one write() to the -wal file: safe from kill -9 when it returns. Power loss may take the last
        # seconds and never the file; in return there is no fsync per second.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        try:
            migrate(db)
        except sqlite3.Error as error:
            if is_damage(error):
                raise DamagedError(f"cannot be brought to schema {VERSION}: {error}") from error
            raise
    except BaseException:
        db.close()
        raise
    return db


def open_memory() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    prepare(db)
    return db


def prepare(db: sqlite3.Connection) -> None:
    """Make an empty database ours."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrate(db)


def migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        rollback(db)
        raise


def check(db: sqlite3.Connection) -> None:
    """Read everything once.

    Raises:
        DamagedError: something is not as it was written.
    """
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise DamagedError("not a state file of regiondrift")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < 1:
            raise DamagedError(f"damaged: schema {version}")
        if version > VERSION:
            raise DamagedError(f"written by a newer regiondrift (schema {version}, known up to {VERSION})")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(f"damaged: {verdict}")
        _check_sums(db)
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedError(f"damaged: {error}") from error
        raise
    except (UnicodeError, OverflowError) as error:
        # SQLite's own complaints quote what they found.
        raise DamagedError(f"damaged: {error}") from error


def _check_sums(db: sqlite3.Connection) -> None:
    seeds: dict[int, int] = {}
    db.text_factory = bytes
    try:
        for number, collector, entry, document, total in db.execute(
            "SELECT id, collector, entry, document, sum FROM entry"
        ):
            seeds[number] = seed = _seed(collector, entry)
            if total != _document_sum(seed, document):
                raise DamagedError("damaged: a document is not as it was written")
        for owner, number, text, total in db.execute("SELECT entry, number, text, sum FROM line"):
            if owner not in seeds or total != _line_sum(seeds[owner], number, text):
                raise DamagedError("damaged: a row is not as it was written")
    finally:
        db.text_factory = str


def read(db: sqlite3.Connection, key: Key) -> Remembered:
    found = db.execute(
        "SELECT id, document FROM entry WHERE collector = ? AND entry = ?", (key.collector, key.entry)
    ).fetchone()
    if found is None:
        return Remembered()
    rows = db.execute("SELECT number, text FROM line WHERE entry = ? ORDER BY number", (found[0],)).fetchall()
    return Remembered(found[1], tuple(rows))


def keys(db: sqlite3.Connection) -> frozenset[Key]:
    return frozenset(Key(*row) for row in db.execute("SELECT collector, entry FROM entry"))


def apply(db: sqlite3.Connection, changes: Iterable[Change], now: float) -> None:
    """Write all of them or none.

    Raises:
        sqlite3.Error: nothing was written.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for change in changes:
            _apply(db, change, now)
        db.execute("COMMIT")
    except BaseException:
        rollback(db)
        raise


def _apply(db: sqlite3.Connection, change: Change, now: float) -> None:
    name = (change.key.collector, change.key.entry)
    seed = _seed(name[0].encode(), name[1].encode())
    found = db.execute("SELECT id FROM entry WHERE collector = ? AND entry = ?", name).fetchone()
    if found is None:
        total = _document_sum(seed, None)
        owner = db.execute(
            "INSERT INTO entry (collector, entry, sum, written) VALUES (?, ?, ?, ?)", (*name, total, now)
        ).lastrowid
    else:
        (owner,) = found
    if change.document is None:
        db.execute("UPDATE entry SET written = ? WHERE id = ?", (now, owner))
    else:
        total = _document_sum(seed, change.document.encode())
        db.execute(
            "UPDATE entry SET document = ?, sum = ?, written = ? WHERE id = ?", (change.document, total, now, owner)
        )
    if change.clear:
        db.execute("DELETE FROM line WHERE entry = ?", (owner,))
    elif change.deletes:
        db.executemany("DELETE FROM line WHERE entry = ? AND number = ?", [(owner, n) for n in change.deletes])
    db.executemany(
        "INSERT OR REPLACE INTO line (entry, number, text, sum) VALUES (?, ?, ?, ?)",
        [(owner, n, text, _line_sum(seed, n, text.encode())) for n, text in sorted(change.upserts.items())],
    )


def purge(db: sqlite3.Connection, gone: Iterable[Key], before: float) -> int:
    """Forget those of `gone` that were last written before `before`, Unix time. How many there were."""
    count = 0
    db.execute("BEGIN IMMEDIATE")
    try:
        for key in gone:
            found = db.execute(
                "SELECT id FROM entry WHERE collector = ? AND entry = ? AND written < ?",
                (key.collector, key.entry, before),
            ).fetchone()
            if found is not None:
                db.execute("DELETE FROM line WHERE entry = ?", found)
                db.execute("DELETE FROM entry WHERE id = ?", found)
                count += 1
        db.execute("COMMIT")
    except BaseException:
        rollback(db)
        raise
    if count:
        db.execute("PRAGMA incremental_vacuum").fetchall()
    return count


def rollback(db: sqlite3.Connection) -> None:
    # After a full disk SQLite has often rolled back by itself.
    if db.in_transaction:
        db.execute("ROLLBACK")


def companions(path: Path) -> tuple[Path, ...]:
    """The files that SQLite keeps beside `path`."""
    return tuple(path.with_name(path.name + suffix) for suffix in COMPANIONS)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=1, isolation_level=None, check_same_thread=False
    )


def _seed(collector: bytes, entry: bytes) -> int:
    return zlib.crc32(collector + b"\0" + entry)


def _document_sum(seed: int, document: bytes | None) -> int:
    return zlib.crc32(b"none", seed) if document is None else zlib.crc32(document, zlib.crc32(b"some", seed))


def _line_sum(seed: int, number: int, text: bytes) -> int:
    return zlib.crc32(b"%d:%b" % (number, text), seed)
