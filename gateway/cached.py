"""A result that many callers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """The result or the error of `compute`, kept for `age` seconds from its start. It runs once at
    a time, however many callers wait for it, and goes on when they leave."""

    def __init__(self, compute: Callable[[], Awaitable[T]], age: float) -> None:
        self._compute = compute
        self._age = age
        self._task: asyncio.Future[T] | None = None
        self._start = 0.0

    async def __call__(self) -> T:
        now = asyncio.get_running_loop().time()
        if not self._task or (self._task.done() and now - self._start >= self._age):
            self._start, self._task = now, asyncio.ensure_future(self._compute())
            # Marks the error as seen, since all callers may be gone.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task = self._task  # another caller may replace it before this one goes on
        await asyncio.wait({task})  # not awaited itself, which would cancel it with a caller
        return task.result()
