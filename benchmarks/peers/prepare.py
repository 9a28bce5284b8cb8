"""Make the peers' environments and models in `.cache/peers`, and our bundles of the same network.

    python benchmarks/peers/prepare.py

What exists is kept. Takes some minutes and 8 GB. A failure is reported with the last line of the program's log, and the
rest is still made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.lib.stored_weights import EXACT, WAYS, bundle_with, shipped
from benchmarks.peers.environments import PEERS, RecipeError, install
from benchmarks.peers.models import RECIPES, make
from benchmarks.peers.places import MODELS
from edge_prompt import EdgePromptError
from examples.real_data import minilm

OURS = [(engine, weights) for engine in WAYS for weights in (EXACT, "int8", "int4")]

STEPS: dict[str, Callable[[], object]] = {
    **{f"environment {peer}": partial(install, peer) for peer in PEERS},
    **{f"model {name}": partial(make, MODELS / name, recipe) for name, recipe in RECIPES.items()},
    **{f"bundle in {name} for {engine}": partial(bundle_with, engine, shipped(engine, name)) for engine, name in OURS},
}
"""Steps by name, in order of execution."""


def prepare() -> dict[str, str]:
    """Make everything; return the reasons of failures by name."""
    minilm()
    failed: dict[str, str] = {}
    for name, step in STEPS.items():
        with Console(stderr=True).status(name):
            try:
                step()
            except (RecipeError, EdgePromptError) as error:
                failed[name] = str(error)
    return failed


def main() -> None:
    """Make everything and print the outcome.

    Raises:
        SystemExit: Something could not be made.
    """
    failed = prepare()
    table = Table("what", "state")
    for name in STEPS:
        table.add_row(name, failed.get(name, "there"))
    Console().print(table)
    if failed:
        raise SystemExit("; ".join(f"{name}: {reason}" for name, reason in failed.items()))


if __name__ == "__main__":
    main()
