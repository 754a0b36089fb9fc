"""A digest that tells one set of tensors from another."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["state_sha256"]


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes of all tensors, in the order of their names, as hexadecimal digits."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
