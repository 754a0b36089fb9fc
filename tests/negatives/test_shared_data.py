"""Every kind on real images."""

from pathlib import Path

import numpy as np
import pytest

from strays.negatives import build_negatives

KINDS = (
    "objects",
    "objects:cut=union,exclude=meta-ood",
    "objects:cut=rectangle-or-labels",
    "patches",
    "whole:exclude=none",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", ["coco128_seg", "object_cutouts"])
def test_real_negatives(shared: Path, patch, unchanged, kind: str, folder: str) -> None:
    negatives = build_negatives(f"{kind}={shared / 'data' / folder}")
    assert len(negatives) > 20
    scene, random = patch((500, 700)), np.random.default_rng(0)
    before = unchanged(scene)
    mixed = [negatives.mix(scene, random) for _ in range(6)]
    before.check()
    shares = [float((one.mask == 1).mean()) for one in mixed]
    assert sum(share > 0 for share in shares) >= 3
    for one in mixed:
        np.testing.assert_array_equal(one.labels == 255, one.mask != 0)
        assert (one.image[one.mask == 0] == 255).all()
