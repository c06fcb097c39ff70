"""Limits of sample rates, amplitudes and resampling ratios, for every reader of recordings.

The lengths of clips are checked in corpus/validation.py.
"""

MIN_RATE, MAX_RATE = 4_000, 768_000  # Hz; other sample rates come from broken headers
MAX_AMPLITUDE = 8.0  # decoders overshoot 1.0 slightly; larger float samples are usually unscaled 16-bit integers
MAX_RATIO_DENOMINATOR = 1_000  # of a resampling ratio
MAX_FILTER_SIZE = 10**7  # product of the terms of a resampling ratio, which the filter's size is proportional to
