"""How long ``strays --help`` takes, beside an interpreter that does nothing."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

__all__ = ["Cost", "main", "measure"]

BUDGET = 0.5
STRAYS = str(Path(sys.executable).with_name("strays"))


class Cost(NamedTuple):
    """What one command costs, in seconds; its processor time does not depend on what else the machine does."""

    wall: float
    processor: float


def measure(command: list[str], runs: int) -> Cost:
    """Return the median cost of a command; one run before the others warms the file cache."""
    costs = [_once(command) for _ in range(runs + 1)][1:]
    return Cost(median(one.wall for one in costs), median(one.processor for one in costs))


def _once(command: list[str]) -> Cost:
    wall, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - wall, spent)


def main() -> None:
    """Measure both and print seconds and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    bare = measure([sys.executable, "-c", "pass"], runs)
    ours = measure([STRAYS, "--help"], runs)
    print(f"median of {runs} runs     wall   processor")
    print(f"python -c pass      {bare.wall:.3f} s   {bare.processor:.3f} s")
    print(f"strays --help       {ours.wall:.3f} s   {ours.processor:.3f} s   (wall budget {BUDGET} s)")
    print(f"ratio               {ours.wall / bare.wall:.1f}       {ours.processor / bare.processor:.1f}")


if __name__ == "__main__":
    main()
