"""How long ``strays --help`` takes, beside an interpreter that does nothing."""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

__all__ = ["main", "median_seconds"]

BUDGET = 0.5
STRAYS = str(Path(sys.executable).with_name("strays"))


def median_seconds(command: list[str], runs: int) -> float:
    """Return the median wall time of a command in seconds; one run before it warms the file cache."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def main() -> None:
    """Measure both and print seconds and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    bare = median_seconds([sys.executable, "-c", "pass"], runs)
    ours = median_seconds([STRAYS, "--help"], runs)
    print(f"python -c pass   {bare:.3f} s")
    print(f"strays --help    {ours:.3f} s, {ours / bare:.1f} times as long (median of {runs}; budget {BUDGET} s)")


if __name__ == "__main__":
    main()
