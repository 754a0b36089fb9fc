"""Pictures of scores, labels and masks: overlays, heat maps and outlines, with a legend."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strays.errors import InputError
from strays.legend import GROUND_TRUTH, THRESHOLD, Colour, Key, add_legend

__all__ = [
    "QUANTILES",
    "ColourScale",
    "draw_heatmap",
    "draw_labels",
    "draw_mask",
    "draw_mask_outline",
    "draw_overlay",
    "score_quantiles",
]

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
"""The levels at which a score map is summarised; they include the three that a colour scale is made of."""
LOW, CLEAR, HIGH = 0.01, 0.75, 0.999
CLEAR_BY_DEFAULT, CLEAR_AT_MOST = 0.15, 0.98
OPAQUE, STRONGEST = 0.7, 0.85
LEAST_SPAN = 1e-30
RIM = (0, 0, 0)
ANOMALY, IGNORE = 1, 255

Score = NDArray[np.floating]
Picture = NDArray[np.uint8]


def score_quantiles(score: Score) -> dict[str, float]:
    """Return the quantiles of a score map by level, ``{"0.0": minimum, ..., "1.0": maximum}``, ready for JSON.

    Example:
        >>> score_quantiles(np.linspace(0, 1, 101, dtype=np.float32))["0.5"]
        0.5
    """
    return dict(zip(map(str, QUANTILES), np.quantile(score, QUANTILES).tolist(), strict=True))


@dataclass(frozen=True)
class ColourScale:
    """Which scores get the first and the last colour, and from which score on an overlay has any.

    Args:
        low: the score with a heat map's first colour, in the detector's own unit; lower ones are drawn like it.
        high: the score with the last colour; higher ones are drawn like it.
        clear: the score with an overlay's first colour, which is fully transparent, like lower ones; 15 % of the way
            to ``high`` by default.

    Raises:
        InputError: unless the scores are finite and ``low <= clear < high``, also in float32.

    Example:
        >>> ColourScale(-2.0, 2.0).index(np.float32([-3.0, 0.0, 9.0])).tolist()
        [0, 128, 255]
    """

    low: float
    high: float
    clear: float | None = None

    def __post_init__(self) -> None:
        if not _spans(self.low, self.high):
            raise InputError(f"expected finite scores low < high for a colour scale, got {self.low} and {self.high}")
        if self.clear is not None and not (self.low <= self.clear and _spans(self.clear, self.high)):
            raise InputError(f"expected a clear score from {self.low} to below {self.high}, got {self.clear}")

    @classmethod
    def of(cls, scores: Score | Iterable[Score]) -> Self:
        """Return the scale from the 1 % to the 99.9 % quantile of one or several score maps of any shape.

        Overlays are clear up to the 75 % quantile, so that most of the ordinary road stays visible whatever the
        detector's distribution. Several maps weigh alike, whatever their size; between the levels of ``QUANTILES``
        their distributions are taken as linear. Where the outer quantiles coincide the scale spans the range, and one
        of a constant map starts there.

        Raises:
            InputError: if there is no map, an empty one, or a score that is not finite.
        """
        maps = [scores] if isinstance(scores, np.ndarray) else list(scores)
        for score in maps:
            if not score.size or not np.isfinite(score).all():
                raise InputError("expected maps of finite scores for a colour scale, got an empty map, NaN or infinity")
        return cls.of_quantiles(score_quantiles(score) for score in maps)

    @classmethod
    def of_quantiles(cls, quantiles: Iterable[Mapping[str, float]]) -> Self:
        """Return the scale that ``of`` would give for the maps that ``score_quantiles`` has summarised.

        Raises:
            InputError: if there is no summary.
        """
        tables = [(list(map(float, table)), list(table.values())) for table in quantiles]
        if not tables:
            raise InputError("expected at least one score map for a colour scale, got none")
        grid = np.unique(np.concatenate([values for _, values in tables]))
        share = np.mean([np.interp(grid, values, levels) for levels, values in tables], axis=0)
        low, clear, high = np.interp((LOW, CLEAR, HIGH), share, grid).tolist()
        low, high = _widened(low, high, grid)
        return cls(low, high, min(max(clear, low), low + CLEAR_AT_MOST * (high - low)))

    @property
    def overlay(self) -> "ColourScale":
        """The scale from the clear score to the highest, whose colours an overlay has."""
        clear = self.low + CLEAR_BY_DEFAULT * (self.high - self.low) if self.clear is None else self.clear
        return ColourScale(clear, self.high, clear)

    def index(self, score: Score) -> Picture:
        """Return the entry of the colour table, 0 to 255, for every score of an array of any shape."""
        with np.errstate(over="ignore"):
            part = (score.astype(np.float32, copy=False) - np.float32(self.low)) / np.float32(self.high - self.low)
        return (np.clip(part, 0, 1, out=part) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _spans(low: float, high: float) -> bool:
    with np.errstate(over="ignore"):
        span = np.float32(high - low)
    return math.isfinite(low) and math.isfinite(high) and bool(np.isfinite(span)) and bool(span > 0)


def _widened(low: float, high: float, grid: NDArray[np.floating]) -> tuple[float, float]:
    least, most = float(grid[0]), float(grid[-1])
    if high - low > LEAST_SPAN:
        return low, high
    return (least, most) if most - least > LEAST_SPAN else (least, least + max(1.0, abs(least)))


def draw_overlay(
    image: Picture,
    score: Score,
    scale: ColourScale,
    threshold: float | None = None,
    mask: Picture | None = None,
    labels: Picture | None = None,
    palette: Picture | None = None,
    label: str = "",
    legend: bool = True,
) -> Image.Image:
    """Return the image with its score map laid over it: the more anomalous, the brighter and the more opaque.

    Args:
        image: uint8 (H, W, 3) RGB.
        score: float (H, W), larger = more anomalous.
        scale: colours run from its clear score, fully transparent, to its highest.
        threshold: the score whose contour (score >= threshold) is drawn in white; specks and holes too small for a
            line around them have none.
        mask: uint8 (H, W) anomaly mask whose anomalies are outlined.
        labels: uint8 (H, W) classes to be blended into the image first, by the colours of ``palette`` (256, 3).
        palette: uint8 (256, 3), as ``Taxonomy.palette``.
        label: the name of the score, for the legend.
        legend: whether the strip that explains the colours is added below the picture, which grows by its height.

    Raises:
        InputError: if the arrays differ in size or a score is not finite.
    """
    _check(image, score, mask, labels)
    base = Image.fromarray(image)
    if labels is not None and palette is not None:
        base = draw_labels(image, labels, palette)
    colours = scale.overlay
    picture = _blended(Image.fromarray(colours.index(score)), base)
    lines = []
    if mask is not None:
        # Twice as wide as the threshold's line, which is drawn over it, so that both show where they coincide.
        lines.append(_Line(mask == ANOMALY, GROUND_TRUTH, 2 * _line_width(picture)))
    if threshold is not None:
        width = _line_width(picture)
        lines.append(_Line(_without_specks(score >= threshold, (2 * width) ** 2), THRESHOLD, width))
    _outline(picture, *lines)
    if not legend:
        return picture
    bar = _blended(_ramp(), Image.new("RGB", (256, 1), (128, 128, 128)))
    return _explained(picture, bar, (f"up to {colours.low:.3g}", f"{colours.high:.3g}"), threshold, mask, label)


def draw_heatmap(score: Score, scale: ColourScale, label: str = "", legend: bool = True) -> Image.Image:
    """Return the score map (H, W) alone in the colours of the overlay, opaque.

    Raises:
        InputError: if the score is not two-dimensional or not finite.
    """
    _check(None, score)
    picture = _coloured(Image.fromarray(scale.index(score)))
    ends = f"{scale.low:.3g}", f"{scale.high:.3g}"
    return _explained(picture, _coloured(_ramp()), ends, None, None, label) if legend else picture


def draw_labels(image: Picture, labels: Picture, palette: Picture, strength: float = 0.5) -> Image.Image:
    """Return the image (H, W, 3) with the colours (256, 3) of its labels (H, W) blended in by ``strength`` in [0, 1].

    Raises:
        InputError: if the arrays differ in size or the palette has another shape.
    """
    _check(image, None, labels)
    if palette.shape != (256, 3):
        raise InputError(f"expected a palette (256, 3) such as Taxonomy.palette, got {palette.shape}")
    colours = Image.fromarray(labels)
    colours.putpalette(palette.tobytes())
    return Image.blend(Image.fromarray(image), colours.convert("RGB"), strength)


def draw_mask_outline(image: Picture, mask: Picture) -> Image.Image:
    """Return the image (H, W, 3) with the anomalies of its mask (H, W) outlined just outside their pixels.

    Raises:
        InputError: if the arrays differ in size.
    """
    _check(image, None, mask)
    picture = Image.fromarray(image)
    _outline(picture, _Line(mask == ANOMALY, GROUND_TRUTH, _line_width(picture)))
    return picture


def draw_mask(image: Picture, mask: Picture) -> Image.Image:
    """Return the image (H, W, 3) with anomalies tinted and outlined and ignored pixels of the mask (H, W) darkened.

    Raises:
        InputError: if the arrays differ in size.
    """
    _check(image, None, mask)
    picture = Image.fromarray(image)
    strength = np.zeros(256, np.uint8)
    strength[[ANOMALY, IGNORE]] = 90, 180
    tint = Image.composite(
        Image.new("RGB", picture.size, GROUND_TRUTH), Image.new("RGB", picture.size), Image.fromarray(mask == ANOMALY)
    )
    picture.paste(tint, mask=Image.fromarray(strength[mask]))
    _outline(picture, _Line(mask == ANOMALY, GROUND_TRUTH, _line_width(picture)))
    return picture


def _check(image: Picture | None, score: Score | None, *maps: Picture | None) -> None:
    if image is not None and (image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8):
        raise InputError(f"expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}")
    if score is not None and (score.ndim != 2 or not np.isfinite(score).all()):
        raise InputError(f"expected finite scores (H, W), got {score.shape} with {_unfit(score)} NaN or infinite")
    sizes = {one.shape[:2] for one in (image, score, *maps) if one is not None}
    if len(sizes) > 1:
        raise InputError(f"image, score, mask and labels must have one size, got {sorted(sizes)}: resize them first")


def _unfit(score: Score) -> int:
    return int(score.size - np.isfinite(score).sum())


@cache
def _colour_table() -> bytes:
    # Matplotlib takes half a second to import: only whoever draws pays for it.
    from matplotlib import colormaps

    table: NDArray[np.float64] = colormaps["inferno"](np.arange(256))
    return (table[:, :3] * 255).round().astype(np.uint8).tobytes()


@cache
def _opacity() -> Sequence[int]:
    """Opacity by table entry: nothing at the low end, so that the image keeps its own colours, then rising."""
    part = np.clip(np.linspace(0, 1 / OPAQUE, 256), 0, 1)
    return [round(one) for one in (255 * STRONGEST * part * part * (3 - 2 * part)).tolist()]


def _blended(index: Image.Image, base: Image.Image) -> Image.Image:
    return Image.composite(_coloured(index), base, index.point(_opacity()))


@cache
def _ramp() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


def _coloured(index: Image.Image) -> Image.Image:
    picture = index.copy()
    picture.putpalette(_colour_table())
    return picture.convert("RGB")


def _line_width(picture: Image.Image) -> int:
    """Width of an outline in pixels: one per 640 of the picture's width."""
    return max(1, round(picture.width / 640))


class _Line(NamedTuple):
    """An outline around ``inside``, never on it, so that small objects stay visible."""

    inside: NDArray[np.bool_]
    colour: Colour
    width: int


def _outline(picture: Image.Image, *lines: _Line) -> None:
    """Draw outlines, the last on top, above dark rims that set them off against bright skies."""
    rings = [(line, _grown(line.inside, line.width)) for line in lines if line.inside.any()]
    for line, ring in rings:
        picture.paste(RIM, mask=Image.fromarray(_grown(ring, 1) & ~line.inside))
    for line, ring in rings:
        picture.paste(line.colour, mask=Image.fromarray(ring & ~line.inside))


def _without_specks(inside: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Drop regions, then holes, of fewer than ``least`` pixels: a line around each would bury a noisy picture."""
    for _ in range(2):
        numbers, _ = ndimage.label(inside)
        inside = ~(inside & (np.bincount(numbers.ravel()) >= least)[numbers])
    return inside


def _grown(inside: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    grown = inside
    for _ in range(steps):
        before, grown = grown, grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    return grown


def _explained(
    picture: Image.Image,
    bar: Image.Image,
    ends: tuple[str, str],
    threshold: float | None,
    mask: Picture | None,
    label: str,
) -> Image.Image:
    keys = [Key(f"threshold {threshold:.3g}", THRESHOLD)] if threshold is not None else []
    if mask is not None:
        keys.append(Key("ground truth", GROUND_TRUTH))
    title = f"{label} score, larger = more anomalous".strip()
    return add_legend(picture, title, bar, ends, keys)
