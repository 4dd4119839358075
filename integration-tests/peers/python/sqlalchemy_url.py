"""Where a contender's database is, as SQLAlchemy's async drivers want it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url


def sqlalchemy_url(folder: Path, url: str | None) -> URL:
    """A file in the folder, or the PostgreSQL under the URL."""
    if url is None:
        return make_url(f"sqlite+aiosqlite:///{folder / 'peer.db'}")
    return make_url(url).set(drivername="postgresql+asyncpg")
