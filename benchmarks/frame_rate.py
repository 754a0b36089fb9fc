"""How many frames a second does a model watch? Network alone, with its score, and the same exported to ONNX.

    python benchmarks/frame_rate.py [--model default] [--size 720x1280] [--device cpu] [--threads N] [--frames 40]

Evaluation mode, one image at a time, float32 (on a GPU float16 too), from an image in memory to a score for each of
its pixels. Every way takes its turn with every frame, ten frames before the clock starts; the median counts. Freed
memory stays with the process, as under the command line; `--give-memory-back` shows what the C library does by itself.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from strays.allocation import keep_freed_memory
from strays.detectors.build import build_detector
from strays.loading import load_model
from strays.scoring import parse_size

__all__ = ["Watcher", "main"]

WARM_UP = 10
Step = Callable[[], object]


class Watcher(nn.Module):
    """RGB (1, 3, H, W) in [0, 1] -> the anomaly score (1, H, W) of a network's detector, as one exportable module."""

    def __init__(self, network: nn.Module, detector: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor:
        """Return the score."""
        score: Tensor = self.detector.score(self.network.predict(image))
        return score


def main() -> None:
    """Measure and print milliseconds and frames per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--size", default="720x1280", help="height x width")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--give-memory-back", action="store_true", help="leave the C library's allocator as it is")
    arguments = parser.parse_args()
    if not arguments.give_memory_back:
        keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model, device=arguments.device)
    watcher = Watcher(model.network, build_detector(model.facts.detector)).to(model.device).eval()
    height, width = parse_size(arguments.size)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.no_grad():
        ways = on_gpu(watcher, image) if model.device.type == "cuda" else on_cpu(watcher, image, arguments.threads)
        seconds = measure(ways, arguments.frames)
    print(f"{model.name}, {model.facts.detector}, {width}x{height}, {model.device}, {arguments.threads} threads")
    slowest = max(len(name) for name in seconds)
    for name, one in seconds.items():
        print(f"  {name:<{slowest}}  {1000 * one:7.1f} ms  {1 / one:6.1f} frames/s")


def measure(ways: dict[str, Step], frames: int) -> dict[str, float]:
    """Return the median seconds of each way, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(WARM_UP + frames):
        for name, step in ways.items():
            before = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - before)
    return {name: median(one[WARM_UP:]) for name, one in seconds.items()}


def on_cpu(watcher: Watcher, image: Tensor, threads: int) -> dict[str, Step]:
    """Return the ways on a CPU; that of ONNX Runtime is checked against PyTorch's first."""
    exported = onnx_step(watcher, image, threads)
    np.testing.assert_allclose(exported(), watcher(image).numpy(), rtol=1e-3, atol=1e-3)
    return {
        "network": lambda: watcher.network(image),
        "network and score": lambda: watcher(image),
        "the same in ONNX Runtime": exported,
    }


def on_gpu(watcher: Watcher, image: Tensor) -> dict[str, Step]:
    """Return the ways on a GPU, each of which waits until the GPU is done."""

    def halved() -> Tensor:
        with torch.autocast("cuda", torch.float16):
            return watcher(image)

    steps = {
        "network": lambda: watcher.network(image),
        "network and score": lambda: watcher(image),
        "the same in float16": halved,
    }
    return {name: lambda step=step: (step(), torch.cuda.synchronize()) for name, step in steps.items()}


def onnx_step(watcher: Watcher, image: Tensor, threads: int) -> Callable[[], np.ndarray]:
    """Return what runs the exported module on the image."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder:
        path = Path(folder) / "watcher.onnx"
        torch.onnx.export(watcher, (image,), path, dynamo=True, verbose=False, external_data=False)
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name, pixels = session.get_inputs()[0].name, image.numpy()
    return lambda: session.run(None, {name: pixels})[0]


if __name__ == "__main__":
    main()
