"""The tables of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.peers.results import Sample, first_ms, paired, tokens_per_second
from benchmarks.peers.variants import Variant


class Figures(NamedTuple):
    """What was measured of a variant.

    Attributes:
        variant: Which.
        versions: The versions of the libraries that it ran on.
        weight_bytes: The bytes of weights that a token reads.
        load_ms: Loading, of several processes.
        cold_ms: Loading and the first token of the first request, of the same processes.
        samples: One a round.
        peak_bytes: The most that was resident in the process.
        anonymous_bytes: What of it was no file's at the end.
    """

    variant: Variant
    versions: dict[str, str]
    weight_bytes: int
    load_ms: list[float]
    cold_ms: list[float]
    samples: list[Sample]
    peak_bytes: int
    anonymous_bytes: int


WEIGHTS = ("fp32", "int8", "int4")


def show(figures: Sequence[Figures], bandwidth: float, left_out: Mapping[str, str]) -> None:
    """Print the tables.

    Args:
        figures: One a variant.
        bandwidth: Of memory, in bytes a second.
        left_out: Why a variant is not among them, by its name.
    """
    console = Console()
    console.print(f"Memory gives {bandwidth / 1e9:.1f} GB/s to two threads.")
    console.print(measured(figures, bandwidth))
    console.print(beside_peers(figures))
    console.print(with_prompt(figures))
    for name, reason in left_out.items():
        console.print(f"LEFT OUT: {name}: {reason}")
    versions = {library: version for one in figures for library, version in one.versions.items()}
    console.print(", ".join(f"{library} {version}" for library, version in sorted(versions.items())))


def measured(figures: Sequence[Figures], bandwidth: float) -> Table:
    """Every variant, medians."""
    table = Table("variant", "load ms", "cold ms", "first token ms", "decode tokens/s", "of the limit", "peak MB")
    for one in figures:
        rate = tokens_per_second(one.samples)
        table.add_row(
            one.variant.name,
            f"{statistics.median(one.load_ms):,.0f}",
            f"{statistics.median(one.cold_ms):,.0f}",
            f"{first_ms(one.samples):.1f}",
            f"{rate:.1f}",
            f"{rate * one.weight_bytes / bandwidth:.2f} of {bandwidth / one.weight_bytes:.0f}",
            f"{one.peak_bytes / 1e6:,.0f}",
        )
    return table


def beside_peers(figures: Sequence[Figures]) -> Table:
    """Ours without a prompt over the best peer of the same weights, in each figure the best of that."""
    table = Table("ours over the best peer", "decode", "first token", "load", "cold", "peak memory")
    for weights in WEIGHTS:
        plain = [one for one in figures if one.variant.weights == weights and not one.variant.adapter]
        peers = [one for one in plain if one.variant.peer is not None]
        for one in plain if peers else ():
            if one.variant.peer is None:
                quickest = max(peers, key=lambda peer: tokens_per_second(peer.samples))
                table.add_row(
                    one.variant.name,
                    f"{rate_ratio(one, quickest):.2f} ({quickest.variant.pipeline})",
                    f"{first_ratio(one, min(peers, key=lambda peer: first_ms(peer.samples))):.2f}",
                    f"{statistics.median(one.load_ms) / min(statistics.median(peer.load_ms) for peer in peers):.2f}",
                    f"{statistics.median(one.cold_ms) / min(statistics.median(peer.cold_ms) for peer in peers):.2f}",
                    f"{one.peak_bytes / min(peer.peak_bytes for peer in peers):.2f}",
                )
    return table


def with_prompt(figures: Sequence[Figures]) -> Table:
    """Every variant with a prompt or a LoRA over the same pipeline without, if that is there."""
    table = Table("with over without", "decode, a token", "first token", "load", "cold", "peak memory")
    plain = {(one.variant.pipeline, one.variant.weights): one for one in figures if not one.variant.adapter}
    for one in figures:
        base = plain.get((one.variant.pipeline, one.variant.weights))
        if one.variant.adapter and base is not None:
            table.add_row(
                one.variant.name,
                f"{rate_ratio(base, one):.3f}",
                f"{first_ratio(one, base):.3f}",
                f"{statistics.median(one.load_ms) / statistics.median(base.load_ms):.3f}",
                f"{statistics.median(one.cold_ms) / statistics.median(base.cold_ms):.3f}",
                f"{one.peak_bytes / base.peak_bytes:.3f}",
            )
    return table


def rate_ratio(top: Figures, bottom: Figures) -> float:
    """How much faster the one decodes than the other, round by round."""
    return paired(
        [sample.tokens_per_second for sample in top.samples], [sample.tokens_per_second for sample in bottom.samples]
    )


def first_ratio(top: Figures, bottom: Figures) -> float:
    """How much longer the one takes to the first token than the other, round by round."""
    return paired([sample.first_ms for sample in top.samples], [sample.first_ms for sample in bottom.samples])
