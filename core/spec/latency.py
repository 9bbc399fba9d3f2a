"""What a model takes on a machine, from its smallest to dense: what budgets in time are planned by. No torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Point(BaseModel):
    """One size of the model."""

    model_config = ConfigDict(frozen=True)

    left: float = Field(description="part of the encoder's units, evenly over its blocks; of images, of MACs")
    ms: float = Field(description="a pass, about: structures that lose whole blocks are faster")


class Latency(BaseModel):
    """Milliseconds of a pass under one set of conditions: the lower quartile of many, without waits for a core."""

    model_config = ConfigDict(frozen=True)

    runtime: str = Field(examples=["onnx"])
    device: str = Field(examples=["cpu"])
    device_name: str
    threads: int = Field(examples=[2])
    batch_size: int = Field(examples=[1])
    length: int = Field(description="tokens of a text; pixels of a picture's side", examples=[128])
    lowest_ms: float = Field(description="of the fastest that can be made", examples=[0.31])
    dense_ms: float = Field(examples=[13.4])
    curve: list[Point]

    @property
    def says(self) -> str:
        """The range, in words."""
        return (
            f"this model takes {self.lowest_ms:.3g} to {self.dense_ms:.3g} ms (at most "
            f"{self.dense_ms / self.lowest_ms:.1f} times as fast as dense) for a batch of {self.batch_size} with "
            f"length {self.length}, by {self.runtime} on {self.device_name} with {self.threads} threads"
        )

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return self.model_dump(mode="json")
