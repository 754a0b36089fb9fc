"""Any network over overlapping windows of an image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, cast

from torch import Tensor

from strays.cards import Card
from strays.errors import InputError
from strays.networks.base import Configuration, NetworkOutputs, SegmentationNetwork
from strays.networks.wrapper import NetworkWrapper, register_wrapper
from strays.prediction import resize_maps

__all__ = ["SlidingWindow", "window_starts"]


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along a side: every ``stride`` pixels, the last one flush with the end.

    Args:
        size: pixels of the side.
        window: pixels of a window; there is only one where the side has no more.
        stride: pixels from one window to the next.

    Example:
        >>> window_starts(1024, 768, 512), window_starts(2048, 768, 512), window_starts(600, 768, 512)
        ([0, 256], [0, 512, 1024, 1280], [0])
    """
    return [*range(0, size - window, stride), max(0, size - window)]


@register_wrapper("sliding-window")
class SlidingWindow(NetworkWrapper):
    """What a network gives for square windows of the image, averaged where they overlap.

    An image no larger than a window is passed whole, and what the network gives for it stays as it is; one that is
    larger in one direction only is cut in that one. Otherwise logits and outlier logits of every window are resized
    bilinearly (``align_corners=False``) to its pixels and averaged there, so those of the image come at its size.
    Features are averaged at their own stride, on whose grid the windows must lie: for a tap at stride 16, multiples of
    16 as window, stride and sides of the image do. Windows are looked at one after another.

    Reference:
        Strudel et al., Segmenter: Transformer for Semantic Segmentation, ICCV 2021

    Args:
        base: the network.
        window: height and width of a window in pixels, at least 1.
        stride: pixels from one window to the next, at least 1 and no more than ``window``.

    Raises:
        InputError: if window and stride are not such numbers.

    Example:
        >>> import torch
        >>> from strays.networks.enet import ENet
        >>> network = SlidingWindow(ENet(classes=5).eval(), window=32, stride=24)
        >>> network(torch.rand(1, 3, 40, 96)).shape, network.around("enet")
        (torch.Size([1, 5, 40, 96]), 'sliding-window(enet,window=32,stride=24)')
    """

    card: ClassVar[Card] = Card(
        title="Sliding window",
        summary="The logits of another network for overlapping windows of the image, averaged where they overlap.",
        paper="Strudel et al., Segmenter: Transformer for Semantic Segmentation, ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2105.05633",
        notes="A wrapper: sliding-window(MODEL,window=768,stride=512). The defaults are those of that paper on "
        "Cityscapes.",
    )

    def __init__(self, base: SegmentationNetwork, window: int = 768, stride: int = 512) -> None:
        super().__init__(base)
        if window < 1 or not 1 <= stride <= window:
            raise InputError(
                f"window is {window} and stride {stride}, expected a window of at least 1 pixel and a stride from 1 to "
                "that, as pixels between windows would never be seen"
            )
        self.window, self.step = window, stride

    def settings(self) -> Configuration:
        """Return window and stride."""
        return {"window": self.window, "stride": self.step}

    def observe(self, image: Tensor, taps: Iterable[str] = ()) -> tuple[NetworkOutputs, Mapping[str, Tensor]]:
        """Return what all windows together give; see ``NetworkWrapper.observe``.

        Raises:
            InputError: also if a window does not lie on the grid of a tap's features.
        """
        taps = tuple(taps)
        rows, columns = (_Axis.over(side, self.window, self.step) for side in image.shape[-2:])
        if len(rows.starts) == len(columns.starts) == 1:
            return self.base.observe(image, taps)
        outputs, features = _Stitched(rows, columns), _Stitched(rows, columns)
        for top in rows.starts:
            for left in columns.starts:
                seen, found = self.seen(image[..., top : top + rows.window, left : left + columns.window], taps)
                for name, maps in seen.items():
                    outputs.add(name, resize_maps(maps, (rows.window, columns.window)), top, left)
                for name, maps in found.items():
                    features.add(name, maps, top, left)
        return cast(NetworkOutputs, outputs.means()), features.means()


@dataclass(frozen=True)
class _Axis:
    """Where windows lie along one side of an image, in pixels."""

    size: int
    window: int
    starts: tuple[int, ...]

    @classmethod
    def over(cls, size: int, window: int, stride: int) -> Self:
        return cls(size, min(size, window), tuple(window_starts(size, window, stride)))

    def pixels(self, cells: int, what: str) -> int:
        """Return how many pixels belong to each of the cells that a map has along a window."""
        pixels, rest = divmod(self.window, cells)
        if rest or any(start % pixels for start in self.starts):
            stride = f"stride {pixels}" if not rest else f"{cells} cells to {self.window} pixels"
            raise InputError(
                f"the features {what!r} come at {stride}, and windows of {self.window} pixels that begin at "
                f"{', '.join(map(str, self.starts))} do not lie on their grid: choose multiples of that stride as "
                "window, stride and --network-size, or a detector that reads logits, such as energy"
            )
        return pixels

    def extent(self, cells: int, what: str) -> int:
        """Return how many cells a map of the whole image has."""
        return cells if len(self.starts) == 1 else self.size // self.pixels(cells, what)

    def offset(self, start: int, cells: int, what: str) -> int:
        """Return the first cell of the window that begins at a pixel."""
        return 0 if len(self.starts) == 1 else start // self.pixels(cells, what)


class _Stitched:
    """Maps of windows by name, as sums over the image and how many windows went into each."""

    def __init__(self, rows: _Axis, columns: _Axis) -> None:
        self._axes = rows, columns
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, name: str, maps: Tensor, top: int, left: int) -> None:
        """Add maps (N, C, h, w) of the window that begins at a pixel.

        Raises:
            InputError: if it does not begin between two cells of the maps.
        """
        cells = maps.shape[-2:]
        if name not in self._sums:
            extent = [axis.extent(count, name) for axis, count in zip(self._axes, cells, strict=True)]
            self._sums[name] = maps.new_zeros(*maps.shape[:2], *extent)
            self._counts[name] = maps.new_zeros(1, 1, *extent)
        places = zip(self._axes, (top, left), cells, strict=True)
        y, x = (axis.offset(start, count, name) for axis, start, count in places)
        for total, part in ((self._sums[name], maps), (self._counts[name], 1)):
            total[..., y : y + cells[0], x : x + cells[1]] += part

    def means(self) -> dict[str, Tensor]:
        """Return the means by name."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}
