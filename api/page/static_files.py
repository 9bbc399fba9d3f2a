"""`/static/`: our own style, script and icon."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Response

from api.page.answer import HEADERS, STATIC, missing

KINDS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """One of them: its address has its hash, so that it may be kept."""
    if name not in KINDS:
        raise missing(name)
    return Response(_content(name), media_type=KINDS[name], headers=HEADERS | {"Cache-Control": "max-age=86400"})


@cache
def _content(name: str) -> bytes:
    return (STATIC / name).read_bytes()
