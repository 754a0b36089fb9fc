"""Do the published rows come out? Two Cityscapes checkpoints on the four real anomaly sets, side by side.

    python benchmarks/published_numbers.py [--out FOLDER] [--only SET,...] [--markdown FILE]

Needs the folder ../shared with data and weights. Protocol: images (Pillow bilinear) and masks (nearest) at 512x1024,
images without any anomaly pixel skipped, all labelled pixels of a set pooled, FPR at the first point with TPR >= 95 %.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from strays.benchmark import Benchmark, Protocol, ResultRow
from strays.data import open_scenes
from strays.loading import load_model
from strays.scoring import Scorer

SHARED = Path(__file__).resolve().parents[2] / "shared"
SETS = {
    "RoadAnomaly21": "smiyc-anomaly",
    "RoadObsticle21": "smiyc-obstacle",
    "fs_static": "fishyscapes-static",
    "RoadAnomaly": "road-anomaly",
}
ENET, ERFNET = "enet_cityscapes_void.pth", "erfnet_cityscapes_void_bnfolded.pth"
# AP and FPR95 in per cent, in the order of SETS; ../shared/data/README.md says where they come from
EXPECTED = {
    ("enet", ENET, "void"): ((17.30, 83.95), (1.50, 54.14), (7.37, 56.58), (9.69, 83.09)),
    ("enet", ENET, "msp"): ((26.83, 75.90), (6.47, 30.18), (10.45, 42.08), (13.36, 74.62)),
    ("erfnet", ERFNET, "void"): ((19.17, 78.05), (1.46, 99.79), (20.70, 23.70), (9.63, 91.07)),
}
TOLERANCE = 0.10


def main() -> None:
    """Measure every row and print measured beside published."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/published"), help="continued where it was killed")
    parser.add_argument("--only", default=",".join(SETS), help="data sets, separated by commas")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    rows = [row for network in ("enet", "erfnet") for row in measure(network, wanted, arguments.out)]
    show(rows, arguments.markdown)


def measure(network: str, wanted: list[str], out: Path) -> list[ResultRow]:
    """Return the rows of one checkpoint on the wanted sets, one pass of the network per image."""
    ((weights, *_),) = {(file,) for name, file, _ in EXPECTED if name == network}
    detectors = [detector for name, _, detector in EXPECTED if name == network]
    model = load_model(f"{network}@{SHARED / 'weights' / weights}")
    run = Benchmark(Scorer.build(model, detectors), Protocol(size=(512, 1024), anomaly_free="skip"), out)
    rows = []
    for folder in wanted:
        scenes = open_scenes(f"{SETS[folder]}={SHARED / 'data' / 'anomaly_validation' / folder}").renamed(folder)
        rows += [outcome.row for outcome in run.run(scenes)]
        print(f"{network} on {folder}: done", flush=True)
    return rows


def show(rows: list[ResultRow], markdown: Path | None) -> None:
    """Print the comparison as a table, and write it as Markdown."""
    header = ["network", "score", "data set", "AP", "published", "FPR95", "published", "difference", "within 0.10"]
    table, lines = Table(*header), [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = compared(row)
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    Console().print(table)
    if markdown is not None:
        markdown.write_text("\n".join(lines) + "\n", "utf-8")


def compared(row: ResultRow) -> list[str]:
    """Return the cells of one row: measured, published, largest difference, verdict."""
    network = row.model.split("@")[0]
    (expected,) = (values for key, values in EXPECTED.items() if key[0] == network and key[2] == row.detector)
    published = expected[list(SETS).index(row.dataset)]
    measured = (100 * row.metrics["AP"], 100 * row.metrics["FPR95"])
    difference = max(abs(one - other) for one, other in zip(measured, published, strict=True))
    pairs = [f"{value:.2f}" for both in zip(measured, published, strict=True) for value in both]
    return [network, row.detector, row.dataset, *pairs, f"{difference:.2f}", "yes" if difference <= TOLERANCE else "NO"]


if __name__ == "__main__":
    main()
