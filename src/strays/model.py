"""A model: a segmentation network with its weights, classes, recipe and card, kept in one folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors.torch import save
from torch import Tensor

from strays.cards import Card
from strays.errors import InputError
from strays.files import make_folder, whole_file, write_text
from strays.networks.base import NETWORKS, Configuration, Normalization, SegmentationNetwork
from strays.networks.weights import load_state, read_weights
from strays.networks.wrapper import NetworkWrapper
from strays.prediction import Prediction
from strays.taxonomy import Taxonomy

__all__ = ["MODEL_FILE", "WEIGHTS_FILE", "Model", "ModelFacts"]

MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"

_HUB_PAGE = """---
{{ card_data }}
---

# {{ title }}

{{ summary }}

{% if paper %}Network: [{{ paper }}]({{ url }}), {{ year }}.

{% endif %}{% if notes %}{{ notes }}

{% endif %}{% if licence %}Licence: {{ licence }}

{% endif %}```python
from strays import Model

model = Model.from_pretrained("ORG/ID")
```

or, on the command line, `strays score IMAGES --model hf:ORG/ID`.
"""


class ModelFacts(BaseModel):
    """What ``model.json`` holds: everything about a model but its weights.

    Args:
        name: what the model is called.
        network: name of the network in the registry.
        configuration: keyword arguments that build it.
        taxonomy: the classes of its channels.
        mean, std: its normalisation of RGB in [0, 1].
        recipe: name of the recipe it was trained by, or "".
        detector: name of the detector that reads it best.
        card: the facts about it.
        training: settings and results of its training, as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    network: str
    configuration: Configuration
    taxonomy: Taxonomy
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    recipe: str = ""
    detector: str = "max-logit"
    card: Card
    training: dict[str, object] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        classes = self.configuration.get("classes")
        if classes is not None and classes != len(self.taxonomy):
            raise ValueError(f"the network has {classes} classes, the taxonomy {len(self.taxonomy)}")
        return self


@dataclass(eq=False, repr=False)
class Model(
    ModelHubMixin,
    library_name="strays",
    model_card_template=_HUB_PAGE,
    tags=["anomaly-detection", "semantic-segmentation"],
):
    """A segmentation network together with everything that is needed to use it.

    ``save`` and ``load`` keep it in a folder; ``push_to_hub`` and ``from_pretrained`` on the Hugging Face hub.

    Args:
        network: the network with its weights.
        facts: everything else about it.
        source: the string it was loaded by.
    """

    network: SegmentationNetwork
    facts: ModelFacts
    source: str = ""

    def __post_init__(self) -> None:
        # model.json says it all; left alone, the mixin publishes `source`, a path of this machine, in a config.json
        self._hub_mixin_config = None

    def __repr__(self) -> str:
        facts = self.facts
        return f"Model({facts.name!r}, {facts.network}, {len(facts.taxonomy)} classes, {facts.detector}, {self.device})"

    @property
    def name(self) -> str:
        """What the model is called in results."""
        return self.facts.name

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the network's channels."""
        return self.facts.taxonomy

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next((one.device for one in self.network.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device, in evaluation mode and laid out as it is fastest, and return the model."""
        self.network.to(device).eval()
        for one in self.network.modules():
            if isinstance(one, SegmentationNetwork) and one.channels_last:
                one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def predict(self, image: Tensor, size: tuple[int, int] | None = None, taps: Iterable[str] = ()) -> Prediction:
        """Run the network on RGB images (N, 3, H, W) in [0, 1]; see ``SegmentationNetwork.predict``."""
        return self.network.predict(image.to(self.device), size=size, taps=taps, void=self.taxonomy.void)

    def sha256(self) -> str:
        """Return the SHA-256 over all weights, as hexadecimal digits."""
        return self.network.weights_sha256()

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
        """Write ``model.safetensors`` and ``model.json`` into a folder and return it.

        Args:
            folder: created where it does not exist.
            dtype: what floating-point weights are stored as, such as ``torch.float16``; as they are by default.

        Raises:
            InputError: if the network is none that can be built from its configuration, such as a user's own module,
                or the folder cannot be written to.
        """
        if isinstance(self.network, NetworkWrapper):
            raise InputError(
                f"{self.name} is a way to run a model: save that one, and write the wrapper around its folder"
            )
        extended = self.network.configuration.get("network", self.facts.network)
        if self.facts.network not in NETWORKS or extended not in NETWORKS:
            raise InputError(f"{self.name} cannot be saved as a model directory: strays does not build its network")
        path = make_folder(Path(folder))
        weights = {key: _stored(value, dtype) for key, value in self.network.state_dict().items()}
        with whole_file(path / WEIGHTS_FILE) as stream:
            # one entry only: safetensors writes several in an order that changes from run to run
            stream.write(save(weights, metadata={"format": "pt"}))
        write_text(path / MODEL_FILE, self.facts.model_dump_json(indent=2) + "\n")
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the model that ``save`` wrote into a folder, with float32 weights.

        Raises:
            InputError: if a file is missing or does not describe a model.
            WeightsError: if the weights are damaged or those of another network.
        """
        path = Path(folder)
        facts = _read_facts(path / MODEL_FILE)
        network = _built(facts, path / MODEL_FILE)
        load_state(network, read_weights(path / WEIGHTS_FILE), str(path / WEIGHTS_FILE))
        network.normalization = Normalization(facts.mean, facts.std)
        return cls(network.eval(), facts, source=str(folder))

    def generate_model_card(self, *args: object, **kwargs: object) -> ModelCard:
        """Return the page of the model on the hub, made of its card."""
        card: ModelCard = super().generate_model_card(**{**self.facts.card.model_dump(), **kwargs})
        return card

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **kwargs: object,
    ) -> Self:
        if Path(model_id).is_dir():
            return cls.load(model_id)
        files = [
            hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
            for name in (MODEL_FILE, WEIGHTS_FILE)
        ]
        return cls.load(Path(files[0]).parent)


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    kept = value.detach().cpu().contiguous()
    return kept.to(dtype) if dtype is not None and kept.is_floating_point() else kept


def _built(facts: ModelFacts, path: Path) -> SegmentationNetwork:
    kind = NETWORKS[facts.network]
    try:
        return kind(**facts.configuration)
    except TypeError as error:  # a keyword that the network does not have, or a value of another type
        raise InputError(f"{path} does not describe a model: configuration: {error}") from error


def _read_facts(path: Path) -> ModelFacts:
    if not path.is_file():
        raise InputError(f"{path.parent} is not a model directory: it holds no {MODEL_FILE}")
    try:
        return ModelFacts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path} does not describe a model: {where}: {first['msg']}") from error
