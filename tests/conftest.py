"""Tests side by side (`pytest -n`) compute with one thread each: more only wait for each other."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
