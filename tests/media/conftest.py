import pytest
from media_clips import encode_sounds


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    return encode_sounds(tmp_path_factory.mktemp("sounds"))
