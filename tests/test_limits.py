import math

import pytest

from latentsync.commands.main import main
from latentsync.errors import InputError
from latentsync.limits import LIMITS, check_limit, limit, parse_limit, raised_limits, set_limits


@pytest.fixture(autouse=True)
def defaults():
    yield
    set_limits({})


@pytest.mark.parametrize("name", LIMITS)
def test_a_value_at_the_limit_passes_and_one_above_says_how_to_raise_it(name):
    most = limit(name)
    check_limit(name, most, "a.mp4")
    with pytest.raises(InputError, match=rf"^a\.mp4 has \d+ .*--limit {name}={math.ceil(most) + 1}$"):
        check_limit(name, most + 1, "a.mp4")
    set_limits({name: most + 1})
    check_limit(name, most + 1, "a.mp4")
    assert raised_limits() == {name: most + 1}


def test_what_is_no_number_is_above_every_limit_and_no_limit_itself():
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="seconds=N"):
            check_limit("seconds", value, "a.mp4")
    assert parse_limit("pixels=2e9") == ("pixels", 2e9)
    with pytest.raises(InputError, match="there are pixels, frames"):
        parse_limit("pixel=3")
    for text in ("gap=", "gap=0", "gap=-1", "gap=nan", "gap=long"):
        with pytest.raises(InputError, match="a number above 0"):
            parse_limit(text)


def test_a_command_sets_its_limits_and_only_its_own(capsys):
    missing = ["track", "--video_path", "none.mp4", "--track_path", "t.json"]
    assert main([*missing, "--limit", "seconds=7", "--limit", "gap=8"]) == 2
    assert raised_limits() == {"seconds": 7, "gap": 8}
    main(missing)
    assert raised_limits() == {}
    assert main([*missing, "--limit", "speed=7"]) == 2
    assert "--limit speed=7: there are pixels" in capsys.readouterr().err
