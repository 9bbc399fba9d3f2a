"""`/v1/methods`: the pruning methods, and when to use which."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from api.schemas import MethodList, PruningMethod
from core.spec.methods import METHODS

router = APIRouter(prefix="/v1/methods", tags=["models"])


@router.get("")
def list_methods() -> MethodList:
    """The pruning methods: what each does, needs and costs, and when to use it."""
    return MethodList(items=[PruningMethod(**asdict(facts)) for facts in METHODS.values()])
