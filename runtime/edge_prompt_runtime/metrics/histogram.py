"""A latency histogram of fixed size, whose buckets grow by 5 %; quantiles are exact to half a bucket.

Written here because a device installs nothing to count its own requests, and a call is counted in microseconds.
"""

from __future__ import annotations

import math
from array import array

GROWTH = 1.05
"""Ratio of a bucket's upper end to its lower end."""

LEAST_NS = 1_000
"""The lower end of the second bucket; the first holds shorter latencies."""

BUCKETS = 426
"""Enough for a thousand seconds; the last bucket also holds longer latencies."""

_PER_BUCKET = 1 / math.log(GROWTH)


class Histogram:
    """Counts of latencies. Not thread-safe: protect a shared histogram with a lock.

    Attributes:
        count: Number of recorded latencies.
        total_ns: Their sum.
        least_ns: The shortest; 0 if there is none.
        greatest_ns: The longest; 0 if there is none.
    """

    __slots__ = ("_counts", "count", "greatest_ns", "least_ns", "total_ns")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self.count = self.total_ns = self.least_ns = self.greatest_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count a latency in nanoseconds, at least 0."""
        self._counts[bucket_of(duration_ns)] += 1
        self.total_ns += duration_ns
        self.greatest_ns = max(self.greatest_ns, duration_ns)
        if duration_ns < self.least_ns or not self.count:
            self.least_ns = duration_ns
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Add the counts of `other`, which is not modified."""
        if not other.count:
            return
        self.least_ns = min(self.least_ns, other.least_ns) if self.count else other.least_ns
        self.greatest_ns = max(self.greatest_ns, other.greatest_ns)
        self.count += other.count
        self.total_ns += other.total_ns
        for bucket, count in enumerate(other._counts):
            if count:
                self._counts[bucket] += count

    def quantile_ns(self, share: float) -> float:
        """Return a quantile of the latencies, exact to half a bucket (2.5 %).

        Args:
            share: The quantile, from 0 to 1: 0.99 is the 99th percentile.

        Returns:
            Nanoseconds, between the shortest and the longest recorded latency; 0 if nothing was recorded.
        """
        rank, passed = max(1, math.ceil(share * self.count)), 0
        for bucket, count in enumerate(self._counts):
            passed += count
            if passed >= rank:
                return min(max(middle_of(bucket), self.least_ns), self.greatest_ns)
        return 0.0


def bucket_of(duration_ns: int) -> int:
    """Return the bucket of a latency."""
    if duration_ns < LEAST_NS:
        return 0
    return min(int(math.log(duration_ns / LEAST_NS) * _PER_BUCKET) + 1, BUCKETS - 1)


def middle_of(bucket: int) -> float:
    """Return the geometric mean of the two ends of a bucket, in nanoseconds."""
    return float(LEAST_NS * GROWTH ** (bucket - 0.5))
