"""Medians, spreads and what may be said of two samples."""

import statistics
from dataclasses import dataclass

JUDGED_FROM = 3  # samples; fewer have no spread to speak of
STEADY = 0.01  # counts and sizes, which no neighbour disturbs: the same within one per cent


@dataclass(frozen=True)
class Summary:
    median: float
    low: float  # first and third quartile
    high: float
    count: int

    @property
    def spread(self):
        return self.high - self.low


def summary(values):
    """None of no values."""
    if not values:
        return None
    if len(values) == 1:
        return Summary(values[0], values[0], values[0], 1)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(statistics.median(values), low, high, len(values))


def by_round(a, b):
    """The ratio of each round of one run, in which both were measured one after the other: what
    the machine did to both falls out. None if there are not as many of both.
    """
    if not a or not b or len(a) != len(b) or not all(b):
        return None
    return [ours / theirs for ours, theirs in zip(a, b)]


def verdict(a, b, steady=False):
    """How `a` stands to `b` in one run: "less", "more", "tie", or "unknown" with too few rounds.

    A difference that is smaller than its spread is a tie: that of the rounds' ratios.
    """
    ratios = by_round(a, b)
    if steady or ratios is None:
        return moved(a, b, steady)
    of = summary(ratios)
    if of.count < JUDGED_FROM:
        return "unknown"
    if of.median == 1 or abs(of.median - 1) < of.spread:
        return "tie"
    return "less" if of.median < 1 else "more"


def moved(a, b, steady=False):
    """The same for two runs, whose rounds have nothing to do with each other: the spread is the
    larger of both interquartile ranges.
    """
    a, b = summary(a), summary(b)
    if a is None or b is None:
        return "unknown"
    if steady:
        spread = max(a.spread, b.spread, STEADY * max(abs(a.median), abs(b.median)))
    elif min(a.count, b.count) < JUDGED_FROM:
        return "unknown"
    else:
        spread = max(a.spread, b.spread)
    difference = a.median - b.median
    if difference == 0 or abs(difference) < spread:
        return "tie"
    return "less" if difference < 0 else "more"


def ratio(a, b):
    """Of one run: the median of the rounds' ratios. None where there is none."""
    ratios = by_round(a, b)
    if ratios is not None:
        return statistics.median(ratios)
    a, b = summary(a), summary(b)
    return a.median / b.median if a and b and b.median else None


def number(value):
    """Three digits that count: 4.42, 39.1, 356, 5,007."""
    if value is None:
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0005:
        return "<0.001"
    if size < 1:
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if size < 9.995:
        return f"{value:.2f}"
    if size < 99.95:
        return f"{value:.1f}"
    return f"{value:,.0f}"


def with_spread(values):
    """4.42 ±0.1: the median and half of the interquartile range."""
    of = summary(values)
    if of is None:
        return "–"
    if of.count < 2 or of.spread == 0:
        return number(of.median)
    half = of.spread / 2
    return f"{number(of.median)} ±{f'{half:.1g}' if 0.0005 <= half < 9.5 else number(half)}"


def share(by):
    """How a ratio is said: 7 % less, 12 % more, 4.8 times as much."""
    if by >= 1.5 or by <= 0.67:
        return f"{by:.{2 if by < 1 else 1 if by < 10 else 0}f} times as much"
    percent = abs(by - 1) * 100
    return f"{percent:.{0 if percent >= 0.95 else 1}f} % {'less' if by < 1 else 'more'}"
