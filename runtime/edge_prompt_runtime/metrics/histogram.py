"""Latencies in buckets that grow by 5 %: a fixed size, whatever is recorded, and quantiles within half a bucket."""

from __future__ import annotations

import math
from array import array

GROWTH = 1.05
"""The upper end of a bucket over its lower end."""

LEAST_NS = 1_000
"""The lower end of the second bucket; the first holds what is shorter."""

BUCKETS = 426
"""Enough for a thousand seconds; the last bucket holds what is longer, too."""

_PER_BUCKET = 1 / math.log(GROWTH)


class Histogram:
    """Counts of latencies. One thread at a time uses one; whoever shares it has a lock.

    Attributes:
        count: How many were recorded.
        total_ns: Their sum.
        least_ns: The least of them; 0 if there is none.
        greatest_ns: The greatest of them; 0 if there is none.
    """

    __slots__ = ("_counts", "count", "greatest_ns", "least_ns", "total_ns")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self.count = self.total_ns = self.least_ns = self.greatest_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count a latency, in nanoseconds, at least 0."""
        self._counts[bucket_of(duration_ns)] += 1
        self.total_ns += duration_ns
        self.greatest_ns = max(self.greatest_ns, duration_ns)
        if duration_ns < self.least_ns or not self.count:
            self.least_ns = duration_ns
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Count what `other` has counted, which stays as it is."""
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
        """The least latency that `share` of all, 0 to 1, do not exceed: within half a bucket, 2.5 %.

        Args:
            share: 0.99 is the 99th percentile.

        Returns:
            Nanoseconds; 0 if nothing was recorded. Between the least and the greatest that were.
        """
        rank, passed = max(1, math.ceil(share * self.count)), 0
        for bucket, count in enumerate(self._counts):
            passed += count
            if passed >= rank:
                return min(max(middle_of(bucket), self.least_ns), self.greatest_ns)
        return 0.0


def bucket_of(duration_ns: int) -> int:
    """The bucket of a latency."""
    if duration_ns < LEAST_NS:
        return 0
    return min(int(math.log(duration_ns / LEAST_NS) * _PER_BUCKET) + 1, BUCKETS - 1)


def middle_of(bucket: int) -> float:
    """The latency from which both ends of a bucket are equally far, in shares; in nanoseconds."""
    return float(LEAST_NS * GROWTH ** (bucket - 0.5))
