"""Make the peers' environments and models, below `.cache/peers`; what is there already stays.

    python benchmarks/peers/prepare.py

Takes some minutes and 7 GB. What cannot be made is said, with the end of what its program printed, and the rest is made
all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.peers.environments import PEERS, RecipeError, install
from benchmarks.peers.models import RECIPES, make
from benchmarks.peers.places import MODELS
from examples.real_data import minilm


def prepare() -> dict[str, str]:
    """Make everything; gives what failed and why, by its name."""
    steps: dict[str, Callable[[], None]] = {
        **{f"environment {peer}": partial(install, peer) for peer in PEERS},
        **{f"model {name}": partial(make, MODELS / name, recipe) for name, recipe in RECIPES.items()},
    }
    minilm()
    failed: dict[str, str] = {}
    for name, step in steps.items():
        with Console(stderr=True).status(name):
            try:
                step()
            except RecipeError as error:
                failed[name] = str(error)
    return failed


def main() -> None:
    """Make everything and print what there is.

    Raises:
        SystemExit: Something could not be made.
    """
    failed = prepare()
    table = Table("what", "state")
    for name in (*(f"environment {peer}" for peer in PEERS), *(f"model {name}" for name in RECIPES)):
        table.add_row(name, failed.get(name, "there"))
    Console().print(table)
    if failed:
        raise SystemExit("; ".join(f"{name}: {reason}" for name, reason in failed.items()))


if __name__ == "__main__":
    main()
