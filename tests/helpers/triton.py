"""Triton kernels on a CPU, by triton's interpreter."""

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


def run_interpreted(program: str) -> None:
    """Run a program whose kernels are interpreted; its assertions must hold."""
    pytest.importorskip("triton")
    # A process of its own: the variable is read when triton is imported.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
