import platform
import subprocess
import sys

import pytest

from strays.allocation import keep_freed_memory

FAULTS = """
import resource
import torch
from strays.allocation import keep_freed_memory

kept = keep_freed_memory()
faults = []
for _ in range(24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 1024, 1024)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, *faults)
"""
GLIBC = platform.libc_ver()[0] == "glibc"


def page_faults(**environment: str) -> tuple[str, list[int]]:
    command = [sys.executable, "-c", FAULTS]
    kept, *faults = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
    return kept, [int(one) for one in faults]


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_a_large_tensor_costs_no_new_pages_once_one_was_freed() -> None:
    kept, faults = page_faults()
    assert kept == "True"
    assert max(faults[16:]) < 100  # 64 MiB are 16,384 pages of 4 KiB; a heap that tensors are cut from grows first


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_what_the_environment_says_stands() -> None:
    kept, faults = page_faults(MALLOC_TRIM_THRESHOLD_="1000000")
    assert kept == "False"
    assert min(faults[16:]) > 10_000


@pytest.mark.parametrize("missing", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, missing: type[Exception]) -> None:
    def absent(_: None) -> None:
        raise missing

    monkeypatch.setattr("strays.allocation.ctypes.CDLL", absent)
    assert keep_freed_memory() is False
