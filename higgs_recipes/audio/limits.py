"""Limits that every reader of recordings enforces."""

MIN_RATE = 4_000  # Hz; a lower sample rate cannot carry speech and means a broken header
MAX_AMPLITUDE = 8.0  # decoders overshoot 1.0 slightly; larger float samples are usually unscaled 16-bit integers
MAX_RATIO_DENOMINATOR = 1_000  # of a resampling ratio: the filter's size grows with the product of its terms
