"""
An application for uvicorn in which each request is a case of :mod:`tests.aio.program`.

``SIMULATOR`` is a simulator's state directory. After the case ``leave`` the server ends while a batch is under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from tests.aio.program import CASES
from tests.hanging import until_exit, watched


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Watch the end, of which no client is told."""
    yield
    until_exit()


app = FastAPI(lifespan=lifespan)


@app.get("/{name}")
async def do(name: str) -> Any:
    """Do the case of this name, and tell what came of it."""
    with watched():
        return await CASES[name]()
