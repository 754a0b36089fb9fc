"""Procedural road scenes in the CamVid taxonomy, seen from a driving car, with anomalies and exact masks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from strays.data.synthetic.canvas import Canvas, Floats, View, ground_shade, swept
from strays.data.synthetic.ground import paint_ground, paint_sky
from strays.data.synthetic.layout import Standing
from strays.data.synthetic.people import Figure
from strays.data.synthetic.plan import Plan, Weather, make_plan
from strays.errors import InputError
from strays.scene import ANOMALY, INLIER, Scene
from strays.taxonomy import CAMVID, IGNORE

__all__ = ["SyntheticScenes", "synthetic_scene"]

OVERSAMPLING = 2
SMALLEST, MOST = 8, 5


def synthetic_scene(seed: int, size: tuple[int, int] = (360, 480), anomalies: int | None = None) -> Scene:
    """Render one procedural road scene.

    The same seed gives the same composition at every size, and the same bytes at the same size.

    Args:
        seed: which scene, 0 or more.
        size: height and width in pixels.
        anomalies: how many anomalous objects to put in (0 to 5), or None to draw one to three.

    Returns:
        A scene with uint8 CamVid labels, 255 at the pixels of anomalies, and a mask that is 1 at exactly these.

    Raises:
        InputError: if the seed is negative, the size is too small, or the number of anomalies is out of range.

    Example:
        >>> scene = synthetic_scene(3, size=(48, 64))
        >>> scene.name, scene.size, scene.has_anomaly
        ('synthetic-0003', (48, 64), True)
    """
    _check(seed, size, anomalies)
    plan = make_plan(seed, anomalies)
    height, width = size
    canvas = _render(plan, height * OVERSAMPLING, width * OVERSAMPLING)
    labels = _majority(canvas.labels)
    mask = np.where(labels == IGNORE, np.uint8(ANOMALY), np.uint8(INLIER))
    image = _camera(_mean(canvas.rgb), plan.weather, seed)
    return Scene(image, labels, mask, _name(seed))


class SyntheticScenes:
    """A sequence of procedural road scenes, rendered when they are asked for.

    Args:
        count: how many.
        size: height and width in pixels.
        seed: the first scene's seed; the others follow it.
        anomalies: how many anomalous objects per scene, or None for one to three.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> scenes = SyntheticScenes(2, size=(24, 32), seed=5)
        >>> scenes.names, scenes[1].name
        (('synthetic-0005', 'synthetic-0006'), 'synthetic-0006')
    """

    taxonomy = CAMVID

    def __init__(
        self, count: int = 10, size: tuple[int, int] = (360, 480), seed: int = 0, anomalies: int | None = None
    ) -> None:
        if count < 0:
            raise InputError(f"expected a number of scenes of 0 or more, got {count}")
        _check(seed, size, anomalies)
        self.size = size
        self.seed = seed
        self.anomalies = anomalies
        self.names = tuple(_name(seed + index) for index in range(count))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scene:
        position = range(len(self))[index]
        return synthetic_scene(self.seed + position, self.size, self.anomalies)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))


def _name(seed: int) -> str:
    return f"synthetic-{seed:04d}"


def _check(seed: int, size: tuple[int, int], anomalies: int | None) -> None:
    if seed < 0:
        raise InputError(f"expected a seed of 0 or more, got {seed}")
    if len(size) != 2 or min(size) < SMALLEST:
        raise InputError(f"expected a size (height, width) of at least {SMALLEST} pixels each, got {size}")
    if anomalies is not None and not 0 <= anomalies <= MOST:
        raise InputError(f"expected 0 to {MOST} anomalies, or None to draw one to three, got {anomalies}")


def _view(plan: Plan, height: int, width: int) -> View:
    scale = max(width, height * 4 / 3)
    cx = width / 2 + plan.sideways * scale
    return View(width, height, plan.focal * scale, cx, plan.horizon * height, plan.eye, plan.roll)


def _render(plan: Plan, height: int, width: int) -> Canvas:
    canvas = Canvas(_view(plan, height, width), plan.weather.light)
    weather = plan.weather
    paint_sky(canvas, weather.clouds, weather.blue, weather.bright, plan.street.seed)
    shift = weather.light.shadow_shift()
    moving: tuple[Standing | Figure, ...] = (*plan.cars, *plan.figures)
    shade = np.zeros((height, width), np.float32)
    if weather.light.has_shadows:
        still = ground_shade(canvas.view, _cast(plan.fixed, shift), 0.0015)
        canvas.shade = 1 - still
        shade = np.maximum(still, ground_shade(canvas.view, _cast(moving, shift), 0.0012))
    contact = _contact(canvas.view, plan)
    paint_ground(canvas, plan.street, shade, contact)
    for one in sorted((*plan.fixed, *moving), key=lambda thing: -thing.depth):
        one.paint(canvas)
    return canvas


def _cast(things: tuple[Standing | Figure, ...], shift: tuple[float, float]) -> list[NDArray[np.float64]]:
    """Return the outlines of the shadows that things throw on the ground."""
    outlines = []
    for one in things:
        if isinstance(one, Figure):
            outlines += one.shadows(shift)
            continue
        for plan, low, high in one.footprints():
            outlines.append(swept(plan + np.multiply(shift, low), np.multiply(shift, high - low)))
    return outlines


def _contact(view: View, plan: Plan) -> Floats:
    """Return how much sky light the ground loses right under and beside things."""
    soft = [one.outline(0.12) for one in plan.cars]
    soft += [outline for one in plan.figures for outline in one.shadows((0.0, 0.0))]
    tight = [one.outline(-0.25) for one in plan.cars]
    total = 0.42 * ground_shade(view, soft, 0.006, 4) + 0.38 * ground_shade(view, tight, 0.003, 4)
    return np.asarray(total + 0.2 * ground_shade(view, soft[len(plan.cars) :], 0.0015), np.float32)


def _mean(colours: Floats) -> Floats:
    """Return the picture reduced by the oversampling factor."""
    rows = colours[0::2] + colours[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25), np.float32)


def _majority(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the commonest label of every 2x2 block."""
    a, b, c, d = labels[0::2, 0::2], labels[0::2, 1::2], labels[1::2, 0::2], labels[1::2, 1::2]
    return np.where((b == c) | (b == d), b, np.where(c == d, c, a))


def _camera(colours: Floats, weather: Weather, seed: int) -> NDArray[np.uint8]:
    """Return the uint8 picture a cheap camera takes: blur, vignette, exposure, tone curve, noise."""
    height, width, _ = colours.shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    colours = colours * (weather.exposure * (1 - 0.11 * (x * x + y * y)))[..., None] * weather.tint
    toned = np.minimum(np.tanh(np.maximum(colours, 0) * np.float32(1.08)) * np.float32(1.16), 1)
    toned = toned + np.float32(weather.contrast) * toned * (toned - np.float32(0.4)) * (1 - toned)
    sharp = Image.fromarray(np.asarray(np.clip(toned, 0, 1) * 255 + 0.5, np.uint8))
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(0.0008 * width)), np.float32)
    random = np.random.default_rng([11, seed])
    grain = random.standard_normal((height, width, 1), np.float32) * np.float32(0.009)
    grain = grain + random.standard_normal((height, width, 3), np.float32) * np.float32(0.006)
    return np.asarray(np.clip(soft + grain * 255 + 0.5, 0, 255), np.uint8)
