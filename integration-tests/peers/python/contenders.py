"""Stores of other projects, driven by the harness in JSON lines.

What the harness asks for is timed in here, so that neither the pipe nor the
interpreter's start counts.

    python contenders.py --list
    python contenders.py NAME
"""

from __future__ import annotations

import asyncio
import json
import math
import platform
import sqlite3
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from peer import Json, Peer, Unsupported


class Entry(NamedTuple):
    """Where a contender is found; its module wants its packages, this does not."""

    name: str
    venv: str
    databases: list[str]
    module: str
    peer: str


BOTH = ["sqlite", "postgresql"]
CONTENDERS = [
    Entry("DeerFlow (modelled)", "a", BOTH, "store_deerflow", "DeerFlow"),
    Entry("power-loop 0.2.0", "a", ["sqlite"], "store_power_loop", "PowerLoop02"),
    Entry("power-loop", "b", BOTH, "store_power_loop", "PowerLoop"),
    Entry("openai-agents", "a", BOTH, "store_openai_agents", "OpenAiAgents"),
    Entry("langgraph savers", "a", BOTH, "store_langgraph", "LangGraph"),
]


def percentiles(micros: Sequence[float]) -> Json:
    """The median and the 99th percentile."""
    ordered = sorted(micros)

    def at(part: float) -> float:
        return round(ordered[math.ceil(part * len(ordered)) - 1], 1)

    return {"p50_us": at(0.5), "p99_us": at(0.99)}


class Driver:
    """Does with one contender what the harness asks for."""

    def __init__(self, peer: Peer[Any, Any]) -> None:
        self.peer = peer
        self.events: list[Any] = []
        self.sizes: dict[str, int] = {}
        self.url: str | None = None
        self.is_open = False

    async def open(self, folder: str, url: str | None, work: str) -> Json:
        """Opens the contender anew, and reads the work it will be given."""
        await self.close()
        with open(work, encoding="utf-8") as lines:
            self.events = [self.peer.shape(json.loads(line)) for line in lines]
        await self.peer.open(Path(folder), url)
        self.url, self.is_open = url, True
        return {"ok": True}

    def work(self, start: int, number: int) -> list[Any]:
        """That many events from a place on, and round again."""
        size = len(self.events)
        return [self.events[(start + i) % size] for i in range(number)]

    async def append(
        self, writers: int, batch: int, events: int, same_thread: bool
    ) -> Json:
        """Has so many writers append at least so many events."""
        threads = [uuid.uuid4().hex for _ in range(1 if same_thread else writers)]
        sessions = [
            await self.peer.session(threads[writer % len(threads)])
            for writer in range(writers)
        ]
        # One more than is asked for: a writer's first commit is its warm-up.
        commits = 1 + math.ceil(events / (writers * batch))
        work = [
            [
                self.work((writer * commits + commit) * batch, batch)
                for commit in range(commits)
            ]
            for writer in range(writers)
        ]
        await self.write(sessions, [each[:1] for each in work])
        start = time.perf_counter()
        micros = await self.write(sessions, [each[1:] for each in work])
        seconds = time.perf_counter() - start
        stored = sum([await self.peer.stored(thread) for thread in threads])
        if stored != writers * commits * batch:
            raise ValueError(f"{stored} stored of {writers * commits * batch}")
        timed = stored - writers * batch
        return {"seconds": seconds, "stored": timed, **percentiles(micros)}

    async def write(self, sessions: list[Any], work: list[list[Any]]) -> list[float]:
        """Lets all writers write at once; how long each commit took."""
        append = self.peer.append

        def in_thread(session: Any, commits: list[Any]) -> list[float]:
            micros = []
            for commit in commits:
                start = time.perf_counter()
                append(session, commit)
                micros.append((time.perf_counter() - start) * 1e6)
            return micros

        async def in_task(session: Any, commits: list[Any]) -> list[float]:
            micros = []
            for commit in commits:
                start = time.perf_counter()
                await append(session, commit)
                micros.append((time.perf_counter() - start) * 1e6)
            return micros

        if self.peer.blocking:
            with ThreadPoolExecutor(len(sessions)) as pool:
                done = list(pool.map(in_thread, sessions, work))
        else:
            # All of them are waited for, so that a failure leaves nobody at work.
            tasks = map(in_task, sessions, work)
            done = await asyncio.gather(*tasks, return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return [micros for each in done for micros in each]

    async def fill(self, thread: str, events: int) -> Json:
        """Fills a new thread for reading."""
        await self.peer.fill(thread, self.work(0, events))
        self.sizes[thread] = events
        if self.url is not None:
            import asyncpg

            # As autovacuum does in time, so that no plan is a guess.
            connection = await asyncpg.connect(self.url)
            await connection.execute("ANALYZE")
            await connection.close()
        return {"ok": True}

    async def page(self, thread: str, limit: int, at: str, times: int) -> Json:
        """Reads a page over and over."""
        size = self.sizes[thread]
        return await self.read(
            times, limit, lambda: self.peer.page(thread, limit, at, size)
        )

    async def count(self, thread: str, times: int) -> Json:
        """Counts over and over."""
        return await self.read(times, 1, lambda: self.peer.count(thread))

    async def read(
        self, times: int, least: int, reading: Callable[[], Awaitable[int]]
    ) -> Json:
        """Times a reading, once it brought as much as it should."""
        if (found := await reading()) < least:
            raise ValueError(f"{found} found instead of {least}")
        micros = []
        for _ in range(times):
            start = time.perf_counter()
            await reading()
            micros.append((time.perf_counter() - start) * 1e6)
        return percentiles(micros)

    async def close(self) -> Json:
        """Closes the contender if it is open."""
        if self.is_open:
            self.is_open = False
            await self.peer.close()
        return {"ok": True}

    async def serve(self, answer: Callable[[Json], None]) -> None:
        """Answers requests until `close` or the end of the input."""
        operations = {
            "open": self.open,
            "append": self.append,
            "fill": self.fill,
            "page": self.page,
            "count": self.count,
            "close": self.close,
        }
        for line in sys.stdin:
            request = json.loads(line)
            operation = request.pop("op", None)
            try:
                answer(await operations[operation](**request))
            except Unsupported as why:
                answer({"unsupported": str(why)})
            except Exception as error:
                answer({"error": f"{type(error).__name__}: {error}"})
            if operation == "close":
                return
        await self.close()


def main() -> None:
    """Lists the contenders, or is one."""
    if sys.argv[1:] == ["--list"]:
        listed = [
            {"name": each.name, "venv": each.venv, "databases": each.databases}
            for each in CONTENDERS
        ]
        print(json.dumps(listed))
        return
    entry = {each.name: each for each in CONTENDERS}.get(" ".join(sys.argv[1:]))
    if entry is None:
        sys.exit("usage: contenders.py --list | NAME")
    # Answers alone go out: what a package prints is no answer.
    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(message: Json) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        peer = getattr(import_module(entry.module), entry.peer)()
        versions = [f"{package} {version(package)}" for package in peer.packages]
    except ImportError as why:
        answer({"skip": str(why)})
        return
    versions.append(f"Python {platform.python_version()}")
    versions.append(f"SQLite {sqlite3.sqlite_version}")
    answer(
        {
            "contender": entry.name,
            "version": ", ".join(versions),
            "durability": peer.durability,
        }
    )
    asyncio.run(Driver(peer).serve(answer))


if __name__ == "__main__":
    main()
