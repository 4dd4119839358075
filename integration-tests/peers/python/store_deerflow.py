"""A model of DeerFlow's event store, which is in no registry.

Its table, indexes, settings and statements as they were in August 2026: a lock
for each thread in the process; in one transaction an advisory lock
(PostgreSQL), the largest seq, and the batch as objects of the ORM. Owners,
cutting of traces and the idempotent single event are left out.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Index,
    String,
    Text,
    UniqueConstraint,
    event,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from peer import Json, Peer
from sqlalchemy_url import sqlalchemy_url

# Thread and run.
Writer = tuple[str, str]


class Base(DeclarativeBase):
    """What tables are declared by."""


class EventRow(Base):
    """An event, with the five indexes beside its key's."""

    __tablename__ = "run_events"
    __table_args__ = (
        UniqueConstraint("thread_id", "seq", name="uq_events_thread_seq"),
        Index("ix_events_thread_cat_seq", "thread_id", "category", "seq"),
        Index("ix_events_run", "thread_id", "run_id", "seq"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    thread_id: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str | None] = mapped_column(String(64), index=True)
    event_type: Mapped[str] = mapped_column(String(32))
    category: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    event_metadata: Mapped[Json] = mapped_column(JSON)
    seq: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    def record(self) -> Json:
        """The event as callers have it."""
        return {
            "thread_id": self.thread_id,
            "run_id": self.run_id,
            "user_id": self.user_id,
            "event_type": self.event_type,
            "category": self.category,
            "content": json.loads(self.content),
            "metadata": self.event_metadata,
            "seq": self.seq,
            "created_at": self.created_at.isoformat(),
        }


def set_pragmas(connection: Any, _record: Any) -> None:
    """What each connection to SQLite is told."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


class DeerFlow(Peer[Json, Writer]):
    """Appends as its batches are put, pages and counts as its feed of messages."""

    packages = ["SQLAlchemy"]
    durability = (
        "SQLite WAL, synchronous=NORMAL; PostgreSQL synchronous_commit of the server"
    )

    async def open(self, folder: Path, url: str | None) -> None:
        options: Json = {}
        if url is not None:
            options = {
                "pool_size": 5,
                "pool_pre_ping": True,
                "pool_recycle": 300,
                "connect_args": {"command_timeout": 30},
            }
        self.engine = create_async_engine(sqlalchemy_url(folder, url), **options)
        if url is None:
            event.listen(self.engine.sync_engine, "connect", set_pragmas)
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        self.transactions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.locks: dict[str, asyncio.Lock] = {}

    def shape(self, event: Json) -> Json:
        # Nothing is a trace, for traces are cut.
        if event["kind"] == "message":
            told = {"event_type": "llm.ai.response", "category": "message"}
        else:
            told = {"event_type": "run.step", "category": "lifecycle"}
        return {**told, "content": event["content"]}

    async def session(self, thread: str) -> Writer:
        return thread, uuid.uuid4().hex

    async def append(self, session: Writer, batch: list[Json]) -> list[Json]:
        thread, run = session
        async with self.locks.setdefault(thread, asyncio.Lock()):
            async with self.transactions() as transaction, transaction.begin():
                if self.engine.dialect.name == "postgresql":
                    lock = "SELECT pg_advisory_xact_lock(hashtext(:thread)::bigint)"
                    await transaction.execute(text(lock), {"thread": thread})
                largest = select(func.max(EventRow.seq)).where(
                    EventRow.thread_id == thread
                )
                last = await transaction.scalar(largest) or 0
                rows = []
                for seq, each in enumerate(batch, start=last + 1):
                    row = EventRow(
                        thread_id=thread,
                        run_id=run,
                        user_id=None,
                        event_type=each["event_type"],
                        category=each["category"],
                        content=json.dumps(each["content"], ensure_ascii=False),
                        event_metadata={
                            "content_is_json": True,
                            "content_is_dict": True,
                        },
                        seq=seq,
                        created_at=datetime.now(timezone.utc),
                    )
                    transaction.add(row)
                    rows.append(row)
        return [row.record() for row in rows]

    async def stored(self, thread: str) -> int:
        return await self.number(EventRow.thread_id == thread)

    async def count(self, thread: str) -> int:
        return await self.number(
            EventRow.thread_id == thread, EventRow.category == "message"
        )

    async def number(self, *conditions: Any) -> int:
        """How many rows there are."""
        counted = select(func.count()).select_from(EventRow).where(*conditions)
        async with self.transactions() as transaction:
            return await transaction.scalar(counted) or 0

    async def page(self, thread: str, limit: int, at: str, size: int) -> int:
        page = select(EventRow).where(
            EventRow.thread_id == thread, EventRow.category == "message"
        )
        if at == "newest":
            page = page.order_by(EventRow.seq.desc())
        else:
            after = size // 2 if at == "middle" else 0
            page = page.where(EventRow.seq > after).order_by(EventRow.seq)
        async with self.transactions() as transaction:
            rows = list(await transaction.scalars(page.limit(limit)))
        if at == "newest":
            rows.reverse()
        return len([row.record() for row in rows])

    async def close(self) -> None:
        await self.engine.dispose()
