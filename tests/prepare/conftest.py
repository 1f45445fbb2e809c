"""The drawn videos, and what an undisturbed run makes of them, once for all tests."""

import pytest
from raw_videos import SETTINGS, make_raw

from latentsync.prepare.pipeline import prepare


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    return make_raw(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def made(raw, tmp_path_factory):
    """The output of an undisturbed run in one process, and its report."""
    out = tmp_path_factory.mktemp("made") / "data"
    return out, prepare(raw[0], out, SETTINGS, raw[1])
