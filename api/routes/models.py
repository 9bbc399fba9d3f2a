"""`/v1/models`: what can be pruned without a download."""

from __future__ import annotations

from fastapi import APIRouter

from api.context import Here
from api.planning.catalogue import local_models
from api.schemas import Model, ModelList, UnusableModel
from core.domains.channels.model import LocalImageModel
from core.domains.transformer.model import LocalModel

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(here: Here) -> ModelList:
    """Local models, by the name to give as `model` in a job; and what else lies in the models folder, and why."""
    models, others = local_models(here.settings.models_dir)
    return ModelList(
        items=[_of_images(model) if isinstance(model, LocalImageModel) else _of_texts(model) for model in models],
        unusable=[UnusableModel(name=other.name, reason=other.reason) for other in others],
    )


def _of_texts(model: LocalModel) -> Model:
    return Model(
        name=model.name,
        task="text",
        architecture=model.architecture.family.model_type,
        layers=model.architecture.layers,
        **model.architecture.widest,
        hidden=model.architecture.hidden,
        pruned=model.pruned,
        labels=list(model.labels),
        reads=model.reads,
        encoder_params=model.encoder_params,
        model_params=model.model_params,
        size_bytes=model.size_bytes,
    )


def _of_images(model: LocalImageModel) -> Model:
    return Model(
        name=model.name,
        task="image",
        architecture=model.family.model_type,
        pruned=model.pruned,
        labels=list(model.labels),
        pixels=model.side,
        model_params=model.params,
        size_bytes=model.size_bytes,
    )
