"""Everything that decides the result of a training run; written beside the weights and compared on resume."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from strays.recipes import RECIPES

__all__ = ["ClassWeighting", "FrozenNorm", "OptimizerName", "Precision", "ScheduleName", "TrainingSettings"]

Precision = Literal["auto", "float32", "bfloat16"]
ClassWeighting = Literal["none", "inverse-log"]
OptimizerName = Literal["adamw", "adam"]
ScheduleName = Literal["cosine", "poly", "plateau", "constant"]
FrozenNorm = Literal["eval", "train"]

_Side = Annotated[int, Field(ge=1)]
_Zoom = Annotated[float, Field(gt=0)]


class TrainingSettings(BaseModel):
    """The settings of one run. What is not given comes from the recipe's ``defaults``, then from the values below.

    Args:
        recipe: name of the recipe, with settings of its own where wanted: ``densehybrid:beta=0.05``.
        network: name of a network to start from random weights; ``swiftnet-rn18`` where ``init`` is not given either.
        init: model to start from: a folder, ``default``, ``NETWORK@FILE``, ``hf:ID``; or None for random weights.
        data: data specifications (``camvid=DIR``, ``synthetic=120``). The first one validates, and its classes are the
            network's where there is no ``init``; those of others are translated. A coarse class that holds several of
            them (``idd-lite=DIR``) teaches the sum of their probabilities.
        negatives: kinds of negatives and their folders (``objects=DIR``, ``patches=DIR``, ``void``).
        negative_share: probability that a crop gets a negative.
        encoder_weights: file with weights for the encoder, or None to start it from random ones.
        trained: names of the blocks that are trained, the others frozen; empty = all. Heads are always trained.
        frozen_norm: whether batch norm in frozen blocks keeps its statistics (``eval``) or goes on gathering them.
        seed: decides initial weights, order, crops, negatives and colours.
        epochs: passes over all training scenes.
        batch: crops per step, of all processes together.
        accumulate: parts that a step's crops are computed in, one after the other, to save memory. A loss is then the
            mean over the parts: a term whose pixels only some of them have counts less, as with several processes.
        crop: (H, W) of a crop.
        scale: range of the random zoom.
        colour: strength of the random brightness, contrast, saturation, hue, gamma and blur, in [0, 3]; 0 = none.
        style: probability that a crop gets the colour statistics of another one of its batch, by a random share.
        camera: strength of random darkness, coarseness, noise and JPEG artefacts, in [0, 3]; 0 = none.
        optimizer: ``adamw`` or ``adam``, both with betas of 0.9 and 0.99.
        schedule: ``cosine``, ``poly`` (power 0.9), ``constant``, or ``plateau``, which divides the rate by 2 when
            validation mIoU has not grown for more than 5 epochs.
        learning_rate: after 50 steps, in which it rises from nothing; ``final_learning_rate`` at the end of ``cosine``,
            and what ``poly`` and ``plateau`` do not fall below.
        encoder_rate: factor on learning rate and weight decay of a pre-trained encoder.
        head_rate: factor on the learning rate of heads that a recipe adds to a network that is trained already (init).
        weight_decay: of the optimizer.
        average: decay of a moving average of the weights, which is then what is validated and left behind; 0 = none.
        clip: largest norm of the gradient.
        class_weights: ``inverse-log`` gives rare classes more weight, ``none`` counts pixels alike.
        precision: ``auto`` takes bfloat16 where the device computes it natively.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = "closed-set"
    network: str | None = None
    init: str | None = None
    data: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    negative_share: float = Field(default=0.5, ge=0, le=1)
    encoder_weights: str | None = None
    trained: tuple[str, ...] = ()
    frozen_norm: FrozenNorm = "eval"
    seed: int = Field(default=0, ge=0, lt=2**32)
    epochs: int = Field(default=70, ge=1)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    crop: tuple[_Side, _Side] = (256, 320)
    scale: tuple[_Zoom, _Zoom] = (0.6, 1.8)
    colour: float = Field(default=1.0, ge=0, le=3)
    style: float = Field(default=0.0, ge=0, le=1)
    camera: float = Field(default=0.0, ge=0, le=3)
    optimizer: OptimizerName = "adamw"
    schedule: ScheduleName = "cosine"
    learning_rate: float = Field(default=4e-4, gt=0)
    final_learning_rate: float = Field(default=1e-6, ge=0)
    encoder_rate: float = Field(default=0.25, ge=0)
    head_rate: float = Field(default=1.0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=10.0, gt=0)
    class_weights: ClassWeighting = "inverse-log"
    precision: Precision = "auto"

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: dict[str, object]) -> dict[str, object]:
        recipe = str(given.get("recipe", "closed-set")).partition(":")[0]
        defaults = RECIPES[recipe].defaults if recipe in RECIPES else {}
        network = "swiftnet-rn18" if given.get("init") is None else None
        return {"network": network, **defaults, **given}

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the range runs from low to high")
        return scale

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} cannot be computed in {self.accumulate} equal parts")
        if (self.init is None) == (self.network is None):
            raise ValueError("a run starts either from a network, with random weights, or from a model (init)")
        if self.init is not None and self.encoder_weights is not None:
            raise ValueError("a model to start from has an encoder already: leave --encoder-weights out")
        if self.init is not None and self.encoder_rate != TrainingSettings.model_fields["encoder_rate"].default:
            raise ValueError("--encoder-rate goes with --encoder-weights; of a model, freeze blocks with --trained")
        return self

    @property
    def recipe_name(self) -> str:
        """The name of the recipe without its settings."""
        return self.recipe.partition(":")[0]
