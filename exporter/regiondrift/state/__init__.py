"""What was proven before this process began? One SQLite file that survives kill -9, and a thread that writes it."""

from regiondrift.state.change import Backlog, Change, Key, Remembered
from regiondrift.state.file import StateFile, StateLockedError
from regiondrift.state.writer import StateWriter

__all__ = ["Backlog", "Change", "Key", "Remembered", "StateFile", "StateLockedError", "StateWriter"]
