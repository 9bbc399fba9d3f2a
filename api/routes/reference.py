"""`/docs`: Swagger UI on /openapi.json, served by ourselves: no script of another origin runs in the API's."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Response

ASSETS = {  # of the package fastapi-swagger, but for the last
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Topwork</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = b"""SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});
"""
POLICY = (  # Swagger UI sets styles of elements, and has its pictures as data
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page() -> Response:
    """The page."""
    return Response(PAGE, media_type="text/html", headers=HEADERS)


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """What the page loads."""
    if name not in ASSETS:
        raise HTTPException(404)
    return Response(_content(name), media_type=ASSETS[name], headers=HEADERS | {"Cache-Control": "max-age=3600"})


@cache
def _content(name: str) -> bytes:
    return START if name == "start.js" else (files("fastapi_swagger") / "resources" / name).read_bytes()
