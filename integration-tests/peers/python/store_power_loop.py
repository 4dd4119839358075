"""The session stores of power-loop."""

from __future__ import annotations

import uuid
from pathlib import Path

import power_loop

from peer import Json, Peer, content_text

# Role and content.
Message = tuple[str, str]


def message(event: Json) -> Message:
    """An event as a message."""
    return "assistant" if event["kind"] == "message" else "tool", content_text(event)


class PowerLoop02(Peer[Message, str]):
    """Version 0.2.0: a message is three statements, each committed by itself."""

    packages = ["power-loop"]
    durability = "SQLite WAL, synchronous=NORMAL; three commits a message"
    blocking = True

    async def open(self, folder: Path, url: str | None) -> None:
        self.store = power_loop.SessionStore.open(folder / "peer.db")

    def shape(self, event: Json) -> Message:
        return message(event)

    async def session(self, thread: str) -> str:
        if self.store.get_session(thread) is None:
            self.store.create_session(session_id=thread)
        return thread

    def append(self, session: str, batch: list[Message]) -> None:
        for role, content in batch:
            self.store.append_message(session, role=role, content=content)

    async def stored(self, thread: str) -> int:
        return len(self.store.load_all_messages(thread))

    async def close(self) -> None:
        self.store.close()


class PowerLoop(Peer[Message, str]):
    """The newest version: a transaction a message, and pages that go forward."""

    packages = ["power-loop"]
    durability = (
        "SQLite WAL, synchronous=NORMAL; PostgreSQL synchronous_commit of the server;"
        " a transaction a message"
    )

    async def open(self, folder: Path, url: str | None) -> None:
        self.store = await power_loop.open_store(url or str(folder / "peer.db"))

    def shape(self, event: Json) -> Message:
        return message(event)

    async def session(self, thread: str) -> str:
        if await self.store.get_session(thread) is None:
            await self.store.create_session(session_id=thread)
        return thread

    async def append(self, session: str, batch: list[Message]) -> None:
        for role, content in batch:
            await self.store.append_message(session, role=role, content=content)

    async def fill(self, thread: str, events: list[Message]) -> None:
        # By its own import, for a transaction a message would take minutes.
        pattern = await self.session(uuid.uuid4().hex)
        await self.append(pattern, events[:1])
        archive = await self.store.export_session(pattern)
        tables = archive["tables"]
        row = tables["messages"][0]
        tables["session_state"][0]["next_seq"] = len(events) + 1
        tables["messages"] = [
            {**row, "seq": seq, "role": role, "content": content}
            for seq, (role, content) in enumerate(events, start=1)
        ]
        await self.store.import_session(archive, new_session_id=thread)

    async def stored(self, thread: str) -> int:
        return len(await self.store.load_all_messages(thread))

    async def page(self, thread: str, limit: int, at: str, size: int) -> int:
        if at == "newest":
            # There is no way backward, so the end is asked for first.
            bounds = await self.store.history_bounds(thread)
            after = bounds[1] - limit if bounds else 0
        else:
            after = size // 2 if at == "middle" else 0
        return len(await self.store.history_records(thread, after=after, limit=limit))

    async def close(self) -> None:
        await self.store.close()
