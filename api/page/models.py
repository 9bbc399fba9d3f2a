"""`/models`: what can be pruned here, what each model can do, and why the others cannot."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.context import Here
from api.page.answer import PageRoute, show
from api.routes import models as asked
from api.schemas import Model

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/models")
def models_page(here: Here, request: Request) -> Response:
    """All of them."""
    found = asked.list_models(here)
    folder = here.settings.models_dir.name
    said = {model.name: can_do(model) for model in found.items}
    return show(request, "models.html", models=found.items, unusable=found.unusable, said=said, folder=folder)


def can_do(model: Model) -> str:
    """What it reads, and whether it has a head."""
    if model.task == "image":
        side = f" of {model.pixels} pixels a side" if model.pixels else ""
        head = f"a head of {len(model.labels)} classes" if model.labels else "no head yet"
        return f"classifies pictures{side}; {head}"
    reads = f"reads up to {model.reads} tokens" if model.reads else "reads texts"
    if model.labels:
        return f"{reads}; a head of {len(model.labels)} labels, which is kept where they are yours"
    return f"{reads}; no head yet: one is trained for classes, tags, a number, vectors or ranks"
