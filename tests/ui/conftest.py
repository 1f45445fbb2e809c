"""Small nets for the tests of this folder; they are loaded once."""

import pytest
import small_page
import tiny
from drawn_clips import make_clip

from latentsync.ui.folder import Folder
from latentsync.ui.visitors import Sessions


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    return tiny.make_checkpoints(tmp_path_factory.mktemp("weights") / "checkpoints", resolution=64)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Twenty drawn frames, and sound for twelve."""
    return make_clip(tmp_path_factory.mktemp("clip"), frames=20, seconds=0.48)


@pytest.fixture(scope="session")
def nets(checkpoints, clip):
    return small_page.nets(checkpoints, clip.track)


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    folder.close()


@pytest.fixture
def visits(nets, folder):
    visits = Sessions(nets, folder, restoration=True)
    yield visits
    visits.close()
