"""The two looks of a benchmark at a data set: at scores as they are, then at thresholds of the whole set."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from strays.benchmark.measures import AnyPixelMetrics, Gathering, OfClasses, OfFailures, OfInstances, OfPixels
from strays.benchmark.protocol import Components, Protocol
from strays.metrics import (
    FailureMetrics,
    InstanceMetrics,
    OpenSetConfusion,
    OpenSetThreshold,
    PixelResult,
    SegmentMetrics,
    SmiycPixelMetrics,
    crossed_thresholds,
    open_set_over_halves,
    pixel_metrics,
)

__all__ = ["FirstLook", "SecondLook", "halves_of"]

_FAILURES = MappingProxyType(
    {"AP-Error": "AP-Error", "AP-Success": "AP-Success", "AUROC": "failure AUROC", "FPR95": "failure FPR95"}
)
_OPEN = MappingProxyType({"closed_mIoU": "mIoU", "open_mIoU": "open mIoU"})
"""Names of metrics of classes in their own results, and in the rows of a benchmark."""
_INSTANCES = ("AP", "AP50")


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What is gathered while no threshold is known yet, by detector.

    Args:
        pixels: pixel metrics.
        failures: how well a detector finds what the network got wrong; none where classes are not measured.
        thresholds: by half, the threshold that finds 95 % of its anomalies; likewise.
    """

    pixels: Mapping[str, OfPixels[AnyPixelMetrics]]
    failures: Mapping[str, OfFailures]
    thresholds: Mapping[str, Mapping[str, OfPixels[OpenSetThreshold]]]

    @classmethod
    def prepared(cls, detectors: Sequence[str], protocol: Protocol, halves: Sequence[str]) -> Self:
        """Return an empty look.

        Args:
            detectors: their names.
            protocol: how it is measured.
            halves: names of the halves of the data set; none where classes are not measured.
        """
        exact = protocol.exact
        return cls(
            {name: OfPixels(_pixel_metrics(protocol), name) for name in detectors},
            {name: OfFailures(FailureMetrics(exact), name) for name in detectors if halves},
            {
                name: {half: OfPixels(OpenSetThreshold(exact=exact), name, half) for half in halves}
                for name in detectors
                if halves
            },
        )

    def measures(self) -> list[Gathering]:
        """Return everything in it, always in the same order."""
        thresholds = (one for halves in self.thresholds.values() for one in halves.values())
        return [*self.pixels.values(), *self.failures.values(), *thresholds]

    def class_metrics(self, detector: str) -> dict[str, float]:
        """Return the metrics of failure detection.

        Raises:
            InputError: if the network got all labelled pixels right, or none.
        """
        if detector not in self.failures:
            return {}
        found = self.failures[detector].accumulator.compute()
        return {name: found[key] for key, name in _FAILURES.items()}


@dataclass(frozen=True, eq=False)
class SecondLook:
    """What needs thresholds of the whole set, by detector.

    Args:
        components: component metrics; none where they are not asked for.
        instances: metrics of instances; likewise.
        confusions: open-set confusion by half, at the threshold of the other one; none where classes are not measured.
    """

    components: Mapping[str, OfPixels[SegmentMetrics]]
    instances: Mapping[str, OfInstances]
    confusions: Mapping[str, Mapping[str, OfClasses]]

    @classmethod
    def prepared(
        cls,
        first: FirstLook,
        results: Mapping[str, PixelResult],
        components: Components,
        instances: bool,
        classes: int,
    ) -> Self:
        """Return an empty look at the thresholds that the first one gave.

        Args:
            first: what was gathered without thresholds.
            results: the pixel metrics of that, by detector.
            components: whose size filters component metrics have, if they are wanted.
            instances: whether metrics of instances are wanted.
            classes: number of classes of the model.

        Raises:
            InputError: if a half has no anomaly or no inlier pixel.
        """
        segments = {} if components == "none" else results
        objects = results if instances else {}
        return cls(
            {
                name: OfPixels(SegmentMetrics.preset(components, one["threshold"]), name)
                for name, one in segments.items()
            },
            {name: OfInstances(InstanceMetrics(), name, one["threshold"]) for name, one in objects.items()},
            {name: _confusions(name, halves, classes) for name, halves in first.thresholds.items()},
        )

    def measures(self) -> list[Gathering]:
        """Return everything in it, always in the same order."""
        confusions = (one for halves in self.confusions.values() for one in halves.values())
        return [*self.components.values(), *self.instances.values(), *confusions]

    def thresholds(self) -> list[float]:
        """Return the thresholds it looks at."""
        confusions = (one.accumulator.threshold for halves in self.confusions.values() for one in halves.values())
        components = (one.accumulator.settings.threshold for one in self.components.values())
        return [*components, *(one.threshold for one in self.instances.values()), *confusions]

    def component_metrics(self, detector: str) -> dict[str, float]:
        """Return the component metrics.

        Raises:
            InputError: if there is no component.
        """
        return self.components[detector].accumulator.compute() if detector in self.components else {}

    def instance_metrics(self, detector: str) -> dict[str, float]:
        """Return the average precision of instances.

        Raises:
            InputError: if no true instance is large enough to count.
        """
        if detector not in self.instances:
            return {}
        found = self.instances[detector].accumulator.compute()
        return {f"instance {name}": found[name] for name in _INSTANCES}

    def class_metrics(self, detector: str, named: Collection[int]) -> dict[str, float]:
        """Return closed and open mIoU over the classes that the labels can name.

        Raises:
            InputError: if there is no known pixel.
        """
        if detector not in self.confusions:
            return {}
        halves = {half: one.accumulator for half, one in self.confusions[detector].items()}
        found = open_set_over_halves(halves, named)
        return {name: found[key] for key, name in _OPEN.items()}


def _pixel_metrics(protocol: Protocol) -> AnyPixelMetrics:
    if protocol.ranking == "smiyc":
        return SmiycPixelMetrics()
    return pixel_metrics(protocol.aggregation, protocol.exact, fpr_rule=protocol.fpr_rule)


def _confusions(detector: str, halves: Mapping[str, OfPixels[OpenSetThreshold]], classes: int) -> dict[str, OfClasses]:
    thresholds = crossed_thresholds({half: one.accumulator for half, one in halves.items()})
    return {half: OfClasses(OpenSetConfusion(classes, at), detector, half) for half, at in thresholds.items()}


def halves_of(names: Sequence[str]) -> dict[str, str]:
    """Return by image the half it belongs to: the parts before ``_`` where there are two, else even and odd places.

    Example:
        >>> halves_of(["t5_1", "t5_2", "t6_1"])
        {'t5_1': 't5', 't5_2': 't5', 't6_1': 't6'}
        >>> halves_of(["0001", "0002", "0003"])
        {'0001': 'even', '0002': 'odd', '0003': 'even'}
    """
    towns = {name: name.split("_")[0] for name in names}
    if len(set(towns.values())) == 2:
        return towns
    return {name: "odd" if place % 2 else "even" for place, name in enumerate(names)}
