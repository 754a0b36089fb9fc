"""A student of features: its score against loops, and its training killed, taken up, shared and saved."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from strays.detectors import Detector
from strays.detectors.distillation_comparison import (
    DistillationComparison,
    distillation_discrepancy,
    min_max_normalized,
)
from strays.detectors.students import StudentTraining, imitation, trained_student
from strays.errors import InputError
from strays.prediction import Prediction, resize_maps

CHANNELS, SIZE, GRID = 6, (64, 64), (16, 16)
LABELS = torch.zeros(1, *SIZE)


def teacher_features(image: Tensor, channels: int = CHANNELS) -> Tensor:
    """What a small fixed network sees: smooth enough that a student can learn it."""
    weights = torch.randn(channels, 3, 4, 4, generator=torch.Generator().manual_seed(5)) / 4
    return nn.functional.conv2d(image, weights, stride=4)


def scene(seed: int, images: int = 1, channels: int = CHANNELS, size: tuple[int, int] = SIZE) -> Prediction:
    image = torch.rand(images, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
    features = {"decoder": teacher_features(image, channels)}
    return Prediction(logits=torch.zeros(images, 4, *GRID), size=size, image=image, features=features)


@pytest.fixture(scope="module", name="fitted")
def _fitted() -> DistillationComparison:
    """A detector with a student, one with dropout, that has seen two images; tests leave it as it is."""
    detector = DistillationComparison(student="enet", epochs=1, batch=1)
    return detector.fit([scene(1), scene(2)], [LABELS, LABELS]).eval()


def training(student: str = "swiftnet-mnv2", batch: int = 1, seed: int = 0) -> StudentTraining:
    return StudentTraining(student, batch, learning_rate=1e-4, weight_decay=1e-5, seed=seed)


def show(to: StudentTraining, seeds: range) -> None:
    for seed in seeds:
        one = scene(seed)
        assert one.image is not None
        to.update(one.image, one.features["decoder"])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def enlarged(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear with aligned corners, by SciPy."""
    grid = np.meshgrid(*(np.linspace(0, old - 1, new) for old, new in zip(values.shape, size, strict=True)),
                       indexing="ij")  # fmt: skip
    found: NDArray[np.float64] = map_coordinates(values, grid, order=1)
    return found


def test_discrepancy_is_that_of_a_loop() -> None:
    teacher, student = torch.randn(2, 2, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    found = distillation_discrepancy(teacher, student)
    for image, row, column in np.ndindex(2, 3, 4):
        gaps = [float(teacher[image, c, row, column]) - float(student[image, c, row, column]) for c in range(CHANNELS)]
        assert float(found[image, row, column]) == pytest.approx(sum(gap**2 for gap in gaps) / CHANNELS, rel=1e-5)
    with pytest.raises(InputError, match="of one shape"):
        distillation_discrepancy(teacher, student[:, :3])


def test_min_max_is_per_image_and_survives_a_constant_map() -> None:
    scores = torch.tensor([[[1.0, 3.0], [5.0, 2.0]], [[4.0, 4.0], [4.0, 4.0]]])
    assert min_max_normalized(scores).tolist() == [[[0.0, 0.5], [1.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]]


def test_scores_are_the_discrepancy_enlarged_with_aligned_corners(fitted: DistillationComparison) -> None:
    detector, prediction = deepcopy(fitted), scene(3, images=2, size=(40, 56))
    assert detector.student_ is not None
    assert prediction.image is not None
    with torch.no_grad():
        student = resize_maps(detector.student_(prediction.image), GRID)
    gaps = (prediction.features["decoder"].double() - student.double()).square().mean(dim=1).numpy()
    expected = np.stack([enlarged(one, (40, 56)) for one in gaps])
    np.testing.assert_allclose(detector(prediction).numpy(), expected, rtol=1e-4, atol=1e-5)
    detector.normalized = True
    low, high = expected.min((1, 2), keepdims=True), expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(detector(prediction).numpy(), (expected - low) / (high - low), atol=1e-4)


def test_a_student_learns_its_teacher_but_not_what_it_never_saw() -> None:
    detector = DistillationComparison(epochs=8, batch=1, learning_rate=3e-3)
    scenes = [scene(seed) for seed in range(4)]
    begun = detector.statistics()
    begun.update(scenes[0], LABELS, 0)
    start = DistillationComparison()
    start.conclude(begun)
    detector.fit(scenes, [LABELS] * 4)
    learned, unlearned = float(detector.eval()(scene(9)).mean()), float(start.eval()(scene(9)).mean())
    assert learned < 0.6 * unlearned
    odd = scene(9)
    odd.features["decoder"][..., 4:8, 4:8] += 3.0  # type: ignore[index]
    score = detector(odd)[0]
    assert score[18:30, 18:30].mean() > 5 * score[40:, 40:].mean()


@pytest.mark.parametrize(("student", "batch"), [("swiftnet-mnv2", 2), ("enet", 1)])
def test_training_that_was_killed_ends_with_the_same_bits(student: str, batch: int) -> None:
    whole, first, second = (training(student, batch) for _ in range(3))
    show(whole, range(5))
    show(first, range(3))  # of a batch of two, one gradient is waiting
    written = save(first.state())
    torch.rand(3)  # somebody else draws in between
    second.restore(load(written))
    assert_same(second.state(), first.state())
    show(second, range(3, 5))
    for one in (whole, second):
        one.finish()
    assert_same(second.state(), whole.state())


def test_batches_are_learned_image_by_image() -> None:
    single, together = training(batch=3), training(batch=3)
    show(single, range(3))
    images = torch.cat([scene(seed).image for seed in range(3)])  # type: ignore[misc]
    together.update(images[:2], teacher_features(images[:2]))
    together.update(images[2:], teacher_features(images[2:]))
    assert_same(together.state(), single.state())


def test_a_step_is_adam_on_the_mean_loss() -> None:
    found, start = training("swiftnet-rn18", batch=2), training("swiftnet-rn18", batch=3)
    show(found, range(2))
    show(start, range(1))  # no step yet: the first weights, apart from the statistics of the norms
    student = trained_student("swiftnet-rn18", start.state()).requires_grad_(True).train()
    before = {key: one.detach().clone() for key, one in student.named_parameters()}
    for seed in range(2):
        one = scene(seed)
        assert one.image is not None
        ((student(one.image) - one.features["decoder"]).square().mean() / 2).backward()
    state = found.state()
    for index, (key, one) in enumerate(student.named_parameters()):
        assert one.grad is not None
        slope = one.grad + 1e-5 * before[key]
        # another memory layout, and norms over four values: the gradients are hardly more exact than this
        tolerance = 1e-2 * float(slope.abs().max()) + 1e-7
        torch.testing.assert_close(state[f"adam.{index}.exp_avg"], 0.1 * slope, rtol=0, atol=0.1 * tolerance)
        step = state[f"student.{key}"] - before[key]
        clear = slope.abs() > 2 * tolerance
        torch.testing.assert_close(step[clear], -1e-4 * slope[clear].sign(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_switched_off(switch: type[torch.no_grad]) -> None:
    plain, quiet = training(), training()
    show(plain, range(2))
    with switch():
        show(quiet, range(2))
    assert_same(quiet.state(), plain.state())


def test_the_seed_decides_and_other_random_numbers_are_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made = [training("enet", seed=seed) for seed in (0, 0, 1)]
    for one in made:
        show(one, range(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(made[0].state(), made[1].state())
    assert any(not torch.equal(value, made[2].state()[key]) for key, value in made[0].state().items())


def test_shards_are_refused() -> None:
    assert not DistillationComparison.mergeable
    assert DistillationComparison(epochs=7).sweeps == 7
    with pytest.raises(InputError, match="without --shard"):
        DistillationComparison().statistics().merge(DistillationComparison().statistics())


def test_saved_and_loaded_it_scores_the_same_bits(fitted: DistillationComparison, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fitted")
    loaded = Detector.load(tmp_path / "fitted")
    assert torch.equal(loaded.eval()(scene(3)), fitted(scene(3)))
    DistillationComparison().save(tmp_path / "empty")
    assert not Detector.load(tmp_path / "empty").state_dict()


def test_the_student_stays_as_it_is_in_training_mode(fitted: DistillationComparison) -> None:
    detector = deepcopy(fitted)
    expected, before = detector(scene(3)), {key: one.clone() for key, one in detector.state_dict().items()}
    assert torch.equal(detector.train()(scene(3)), expected)
    assert_same(dict(detector.state_dict()), before)
    assert not any(one.requires_grad for one in detector.parameters())


def test_concluding_twice_changes_nothing_and_later_training_leaves_the_detector_alone() -> None:
    detector = DistillationComparison(batch=2)
    statistics = detector.statistics()
    statistics.update(scene(1), LABELS, 0)
    detector.conclude(statistics)
    first = {key: one.clone() for key, one in detector.state_dict().items()}
    detector.conclude(statistics)
    assert_same(dict(detector.state_dict()), first)
    show(statistics.training, range(2, 4))
    assert_same(dict(detector.state_dict()), first)


def test_images_are_taken_as_the_network_saw_them(fitted: DistillationComparison) -> None:
    class Seen:
        image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(8))

        def again(self, image: Tensor) -> Prediction:
            raise AssertionError("one look is enough")

        sampled = again

    one = scene(1)
    looked = Prediction(
        logits=one.logits,
        size=one.size,
        image=one.image,
        features=one.features,
        passes=Seen(),  # type: ignore[arg-type]
    )
    as_seen = Prediction(logits=one.logits, size=one.size, image=Seen.image, features=one.features)
    assert torch.equal(fitted(looked), fitted(as_seen))
    assert not torch.equal(fitted(looked), fitted(one))


def test_small_images_are_enlarged_for_the_student() -> None:
    class Student(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            self.seen = tuple(image.shape[-2:])
            return image

    student = Student()
    assert imitation(student, torch.rand(1, 3, 24, 32), (6, 8)).shape == (1, 3, 6, 8)  # type: ignore[arg-type]
    assert student.seen == (48, 64)
    imitation(student, torch.rand(1, 3, 64, 10), (6, 8))  # type: ignore[arg-type]
    assert student.seen == (64, 10)


def test_features_of_another_network_are_refused(fitted: DistillationComparison) -> None:
    with pytest.raises(InputError, match="fitted on 6 channels"):
        fitted(scene(1, channels=5))
    started = training()
    show(started, range(1))
    with pytest.raises(InputError, match="learns 6 channels"):
        started.update(torch.rand(1, 3, *SIZE), torch.rand(1, 5, *GRID))


def test_a_loss_that_explodes_and_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="smaller learning_rate"):
        training().update(torch.rand(1, 3, *SIZE), torch.full((1, CHANNELS, *GRID), 1e30))
    with pytest.raises(InputError, match="no network is called"):
        DistillationComparison(student="swiftnet-rn50")
    with pytest.raises(InputError, match="at least 1 epoch"):
        DistillationComparison(epochs=0)
    with pytest.raises(InputError, match="learning_rate above 0"):
        DistillationComparison(learning_rate=0)
    with pytest.raises(InputError, match="no image to fit distillation-comparison on"):
        DistillationComparison().fit([], [])
