"""Everything that decides the result of a training run; written beside the weights and compared on resume."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["ClassWeighting", "Precision", "TrainingSettings"]

Precision = Literal["auto", "float32", "bfloat16"]
ClassWeighting = Literal["none", "inverse-log"]

_Side = Annotated[int, Field(ge=1)]
_Zoom = Annotated[float, Field(gt=0)]


class TrainingSettings(BaseModel):
    """The settings of one run.

    Args:
        recipe: name of the recipe.
        network: name of the network.
        data: data specifications (``camvid=DIR``, ``synthetic=120``), all in one taxonomy; the first one validates.
        encoder_weights: file with weights for the encoder, or None to start it from random ones.
        seed: decides initial weights, order, crops and colours.
        epochs: passes over all training scenes.
        batch: crops per step.
        crop: (H, W) of a crop.
        scale: range of the random zoom.
        colour: strength of the random brightness, contrast, saturation, hue, gamma and blur, in [0, 3]; 0 = none.
        learning_rate: at the start of the cosine; ``final_learning_rate`` at its end.
        encoder_rate: factor on learning rate and weight decay of a pre-trained encoder.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        class_weights: ``inverse-log`` gives rare classes more weight, ``none`` counts pixels alike.
        precision: ``auto`` takes bfloat16 where the device computes it natively.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = "closed-set"
    network: str = "swiftnet-rn18"
    data: tuple[str, ...]
    encoder_weights: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    epochs: int = Field(default=70, ge=1)
    batch: int = Field(default=8, ge=1)
    crop: tuple[_Side, _Side] = (256, 320)
    scale: tuple[_Zoom, _Zoom] = (0.6, 1.8)
    colour: float = Field(default=1.0, ge=0, le=3)
    learning_rate: float = Field(default=4e-4, gt=0)
    final_learning_rate: float = Field(default=1e-6, ge=0)
    encoder_rate: float = Field(default=0.25, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=10.0, gt=0)
    class_weights: ClassWeighting = "inverse-log"
    precision: Precision = "auto"

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the range runs from low to high")
        return scale
