"""Tiny Hugging Face networks, saved to folders and loaded back by path."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from strays.networks.huggingface import HuggingFaceNetwork, load_huggingface
from strays.networks.huggingface_files import (
    import_transformers,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_transformers()


from tiny_transformers import BUILDERS, PREPROCESSOR, randomized


@pytest.fixture(scope="session")
def quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    made = {}
    for name, build in BUILDERS.items():
        made[name] = tmp_path_factory.mktemp(name)
        with torch.no_grad():
            randomized(build()).save_pretrained(made[name])
        (made[name] / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return made


@pytest.fixture(scope="session")
def networks(folders: dict[str, Path]) -> dict[str, HuggingFaceNetwork]:
    return {name: load_huggingface(str(folder)) for name, folder in folders.items()}
