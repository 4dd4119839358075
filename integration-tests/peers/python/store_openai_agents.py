"""SQLAlchemySession of openai-agents."""

from __future__ import annotations

from pathlib import Path

from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from peer import Json, Peer, Unsupported, content_text
from sqlalchemy_url import sqlalchemy_url


class OpenAiAgents(Peer[Json, SQLAlchemySession]):
    """A session for each writer, all on one engine."""

    packages = ["openai-agents", "SQLAlchemy"]
    durability = (
        "SQLite WAL, synchronous=FULL; PostgreSQL synchronous_commit of the server"
    )

    async def open(self, folder: Path, url: str | None) -> None:
        self.engine = create_async_engine(sqlalchemy_url(folder, url))
        # Tables are made by the first session alone: later ones would look for
        # them again, which its documentation leaves to development.
        first = SQLAlchemySession("first", engine=self.engine, create_tables=True)
        await first.get_items()

    def shape(self, event: Json) -> Json:
        role = "assistant" if event["kind"] == "message" else "user"
        return {"role": role, "content": content_text(event)}

    async def session(self, thread: str) -> SQLAlchemySession:
        return SQLAlchemySession(thread, engine=self.engine)

    async def append(self, session: SQLAlchemySession, batch: list[Json]) -> None:
        await session.add_items(batch)

    async def stored(self, thread: str) -> int:
        return len(await (await self.session(thread)).get_items())

    async def page(self, thread: str, limit: int, at: str, size: int) -> int:
        if at != "newest":
            raise Unsupported("no cursor: only the newest items can be asked for")
        return len(await (await self.session(thread)).get_items(limit=limit))

    async def close(self) -> None:
        await self.engine.dispose()
