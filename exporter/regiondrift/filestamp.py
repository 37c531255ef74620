"""Has a file changed? What differs once it was edited, replaced, or a symlink on the way was swapped."""

from __future__ import annotations

from pathlib import Path


def stamp(path: str | Path) -> object:
    """Equal stamps: the same file, unchanged. Blocks as long as the file system does."""
    try:
        s = Path(path).stat()
    except OSError as error:
        return error.errno
    return (s.st_dev, s.st_ino, s.st_mtime_ns, s.st_size)


def stamps(paths: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(stamp(p) for p in paths)
