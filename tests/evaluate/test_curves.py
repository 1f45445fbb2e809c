"""Curves whose correlation and lag are known."""

import numpy as np
import pytest

from latentsync.evaluate.curves import best_lag, correlation


def test_correlation_of_curves_of_any_scale():
    a = np.sin(np.arange(40) / 3)
    assert correlation(a, 5 * a + 2) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    b = np.cos(np.arange(40) / 7)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(40)) == 0


@pytest.mark.parametrize("lag", [-10, -3, 0, 1, 10])
def test_best_lag_is_positive_for_a_mouth_that_comes_late_and_0_for_a_constant(lag):
    course = np.random.default_rng(3).standard_normal(80)
    assert best_lag(course[20 - lag : 60 - lag], course[20:60]) == lag
    assert best_lag(np.ones(21), np.arange(21)) == 0


def test_curves_that_are_too_short_for_a_lag_are_refused():
    with pytest.raises(ValueError, match="20 frames: a lag of up to 10 needs more than 20"):
        best_lag(np.arange(20), np.arange(20))
