"""The checkpoint savers of langgraph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from peer import Json, Peer, Unsupported


@dataclass
class Thread:
    """The last checkpoint that a writer made."""

    config: Json
    version: Any = None
    step: int = 0


class LangGraph(Peer[Json, Thread]):
    """Each saver on the one connection that `from_conn_string` gives it.

    A commit is a checkpoint whose channel holds the batch and nothing else. A
    graph's has the whole state, so this is the least a saver can be asked to
    write, and does not grow with the thread.
    """

    packages = ["langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres"]
    durability = (
        "SQLite WAL, synchronous=FULL; PostgreSQL synchronous_commit of the server"
    )
    # A page is whole checkpoints: five of these are a page of 50.
    fill_batch = 10

    async def open(self, folder: Path, url: str | None) -> None:
        if url is None:
            self.opened = AsyncSqliteSaver.from_conn_string(str(folder / "peer.db"))
        else:
            self.opened = AsyncPostgresSaver.from_conn_string(url)
        self.saver = await self.opened.__aenter__()
        await self.saver.setup()
        self.middle: dict[str, Json] = {}

    def shape(self, event: Json) -> Json:
        return event

    async def session(self, thread: str) -> Thread:
        return Thread({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})

    async def append(self, session: Thread, batch: list[Json]) -> None:
        session.version = self.saver.get_next_version(session.version, None)
        versions = {"messages": session.version}
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": batch}
        checkpoint["channel_versions"] = versions
        metadata = {"source": "loop", "step": session.step, "parents": {}}
        # The answer names this checkpoint, which is the next one's parent.
        session.config = await self.saver.aput(
            session.config, checkpoint, metadata, versions
        )
        session.step += 1

    async def fill(self, thread: str, events: list[Json]) -> None:
        session = await self.session(thread)
        for start in range(0, len(events), self.fill_batch):
            await self.append(session, events[start : start + self.fill_batch])
            if start <= len(events) // 2:
                # A place amid the thread is known by its checkpoint only.
                self.middle[thread] = session.config

    async def stored(self, thread: str) -> int:
        return await self.events_of(thread)

    async def page(self, thread: str, limit: int, at: str, size: int) -> int:
        if at == "first":
            raise Unsupported("checkpoints are listed from the newest only")
        before = self.middle[thread] if at == "middle" else None
        checkpoints = math.ceil(limit / self.fill_batch)
        return await self.events_of(thread, before=before, limit=checkpoints)

    async def events_of(self, thread: str, **which: Any) -> int:
        """How many events the listed checkpoints have."""
        config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        found = 0
        async for listed in self.saver.alist(config, **which):
            found += len(listed.checkpoint["channel_values"]["messages"])
        return found

    async def close(self) -> None:
        await self.opened.__aexit__(None, None, None)
