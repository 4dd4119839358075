"""What every contender does for the driver."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

Json = dict[str, Any]

# An event in the contender's own form.
Event = TypeVar("Event")
# What a writer holds of a thread.
Session = TypeVar("Session")


class Unsupported(Exception):
    """The contender has no such operation."""


class Peer(ABC, Generic[Event, Session]):
    """A contender, used through its public API and with its defaults."""

    packages: list[str]
    durability: str
    # Whether `append` blocks, so that each writer is a thread and no task.
    blocking = False
    # Events a commit of `fill`, which nobody times.
    fill_batch = 100

    @abstractmethod
    async def open(self, folder: Path, url: str | None) -> None:
        """Opens the store in a folder (SQLite) or under a URL (PostgreSQL)."""

    @abstractmethod
    def shape(self, event: Json) -> Event:
        """Puts an event into the contender's own form, before anything is timed."""

    @abstractmethod
    async def session(self, thread: str) -> Session:
        """What a writer holds of a thread; makes the thread if need be."""

    @abstractmethod
    def append(self, session: Session, batch: list[Event]) -> Any:
        """Stores a batch; a coroutine, unless the contender is blocking."""

    async def fill(self, thread: str, events: list[Event]) -> None:
        """Fills a new thread."""
        session = await self.session(thread)
        for start in range(0, len(events), self.fill_batch):
            done = self.append(session, events[start : start + self.fill_batch])
            if not self.blocking:
                await done

    @abstractmethod
    async def stored(self, thread: str) -> int:
        """How many events a thread has, read back from the store."""

    async def page(self, thread: str, limit: int, at: str, size: int) -> int:
        """Reads a page of a thread of that size; how many events it had."""
        raise Unsupported("no pages: a thread is read whole")

    async def count(self, thread: str) -> int:
        """Counts what a thread has."""
        raise Unsupported("no count")

    @abstractmethod
    async def close(self) -> None:
        """Closes the store."""


def content_text(event: Json) -> str:
    """The content as text, for stores whose messages are text."""
    return json.dumps(event["content"], ensure_ascii=False, separators=(",", ":"))
