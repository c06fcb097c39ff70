from fractions import Fraction

from higgs_recipes.audio.limits import MAX_RATIO_DENOMINATOR, MIN_RATE
from higgs_recipes.constants import SAMPLE_RATE


def test_unusual_rates_do_not_need_large_resampling_filters():
    exact = [Fraction(rate, SAMPLE_RATE) for rate in range(MIN_RATE, 200_000, 7)]
    ratios = [ratio.limit_denominator(MAX_RATIO_DENOMINATOR) for ratio in exact]
    assert max(ratio.numerator * ratio.denominator for ratio in ratios) < 10**7
    assert max(abs(ratio / true - 1) for ratio, true in zip(ratios, exact, strict=True)) < 1e-3
