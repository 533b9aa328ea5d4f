"""The page: the files of one folder, as they lie there at start."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler


def page_routes(folder: Path) -> list[web.RouteDef]:
    """`/` is index.html, every other file has its path. What is not there is a plain 404."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    routes = [web.get(f"/{path.relative_to(folder)}", _serve(path)) for path in files]
    return [web.get("/", _serve(folder / "index.html")), *routes]


def _serve(path: Path) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    return handler
