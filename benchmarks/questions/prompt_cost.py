"""How much does a prompt cost per request, by kind and length?

    python benchmarks/questions/prompt_cost.py  # two networks for images, two for texts, both engines
    python benchmarks/questions/prompt_cost.py --network vit-b16 --engine openvino --rounds 30
    python benchmarks/questions/prompt_cost.py --threads 1 --clock cpu  # if others use the machine as well

Compared with a graph without prompt inputs, and for images with VPT-deep as published. `language.py` does the same for
a language model.

Graphs of one network take turns in one process: `plain` is exported without prompt inputs; `none` is ours at length 0;
`folded` is a VPT-deep prompt folded to a prefix; `soft` is a soft prompt; `prefix` consists of keys and values; `naive`
is VPT-deep as published, which joins the prompt to the sequence in every layer. Figures with goals are also measured in
pairs: each run is compared with those just before and after it.

Graphs are exported once and kept in .cache/bench-models under a digest of the export package, its dependencies and the
network, so a graph always belongs to the code that is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, BertConfig, BertModel, PreTrainedModel
from transformers.models.vit import ViTConfig, ViTModel

from benchmarks.lib.prompt_graphs import OUTPUT, opened_graphs, request_names
from benchmarks.lib.publish import Measured, milliseconds, options, publish
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import CLOCKS, interleaved_us, ratios_to_neighbours
from edge_prompt_runtime.engines.base import ENGINES, Engine
from examples.real_data import minilm
from examples.real_images import dinov2

LENGTHS = (50, 100, 200)
QUICK_LENGTHS = (50,)
IMAGE_SIZE = (224, 224)
REQUEST_TOKENS = 32
EQUAL_WITHIN = 1e-3
"""Largest allowed difference of outputs that must be equal, relative to their largest number."""

Feeds = Mapping[str, NDArray[Any]]


class Network(NamedTuple):
    """A network to measure.

    Attributes:
        conditioned: Loads it.
        weights: Whether the weights are its own.
        rounds: Default number of rounds.
    """

    conditioned: Callable[[], ConditionedModule]
    weights: str
    rounds: int


class Call(NamedTuple):
    """One thing to time: a graph, its inputs, and the prompt's kind and length."""

    graph: str
    feeds: Feeds
    kind: str
    length: int

    @property
    def name(self) -> str:
        """The name among the calls of one network and engine."""
        return f"{self.kind} {self.length}"


class Pair(NamedTuple):
    """Two calls to compare, by name, with a description and the goal (an upper limit) of their ratio."""

    top: str
    bottom: str
    says: str
    goal: float | None


def image_network(network: PreTrainedModel, image_size: tuple[int, int] = IMAGE_SIZE) -> ConditionedVision:
    """Wrap a network for images so that it takes prompts."""
    network = network.eval().requires_grad_(requires_grad=False)
    return ConditionedVision(network, "image-feature-extraction", None, image_size)


def text_network(network: PreTrainedModel) -> ConditionedTextEncoder:
    """Wrap a network for texts so that it takes prompts."""
    return ConditionedTextEncoder(network.eval().requires_grad_(requires_grad=False), "feature-extraction", "mean")


def _random_vit_b16() -> PreTrainedModel:
    torch.manual_seed(0)
    return ViTModel(ViTConfig(), add_pooling_layer=False)


def _random_bert_base() -> PreTrainedModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(), add_pooling_layer=False)


REAL, RANDOM = "its own weights", "its published shape with random weights"

NETWORKS = {
    "minilm": Network(lambda: text_network(AutoModel.from_pretrained(minilm())), REAL, 40),
    "bert-base": Network(lambda: text_network(_random_bert_base()), RANDOM, 15),
    "dinov2-small": Network(lambda: image_network(AutoModel.from_pretrained(dinov2())), REAL, 15),
    "vit-b16": Network(lambda: image_network(_random_vit_b16()), RANDOM, 7),
}
QUICK_NETWORKS, QUICK_ROUNDS = ("dinov2-small",), 5

EMPTY_PAIR = Pair("none 0", "plain 0", "our graph without a prompt over a graph without prompt inputs", 1.02)
FOLDED_PAIR = Pair("folded 50", "none 0", "50 folded tokens over no prompt", 1.05)
PREFIX_PAIR = Pair("prefix 50", "none 0", "a prefix of 50 over no prompt", None)
MOST_WARM_UP_ROUNDS = 10
"""Fewer than the default, because a round of these networks takes seconds."""


def image_calls(conditioned: ConditionedVision, lengths: Sequence[int]) -> list[Call]:
    """The timed calls of a network for images, batch 1."""
    request = {"pixel_values": conditioned.trace_inputs()["pixel_values"][:1]}
    empty = arrays(conditioned.graph_inputs(request, {}))
    image = {"pixel_values": empty["pixel_values"]}
    pixel = 0.1 * conditioned.example_prompt("pixel", 0, seed=1)
    calls = [
        Call("plain", image, "plain", 0),
        Call("ours", empty, "none", 0),
        Call("ours", empty | {"pixel_prompt": pixel[None].numpy()}, "pixel", 0),
    ]
    for length in lengths:
        deep = 0.3 * conditioned.example_prompt("deep", length, seed=length)
        calls += [
            Call("naive", {**image, "deep_prompt": deep.numpy()}, "naive", length),
            Call("ours", empty | {"prefix": conditioned.fold(deep).detach().numpy()}, "folded", length),
            Call("ours", empty | {"soft_prompt": deep[:1].numpy()}, "soft", length),
        ]
    return calls


def text_calls(conditioned: ConditionedTextEncoder, lengths: Sequence[int]) -> list[Call]:
    """The timed calls of a network for texts: one text of `REQUEST_TOKENS` tokens."""
    whole = conditioned.example_inputs(1, REQUEST_TOKENS, 0, 0)
    request = {name: whole[name] for name in request_names(conditioned)}
    calls = [
        Call("plain", arrays(request), "plain", 0),
        Call("ours", arrays(conditioned.graph_inputs(request, {})), "none", 0),
    ]
    for length in lengths:
        for kind in ("soft", "prefix"):
            prompt = conditioned.as_input(kind, conditioned.example_prompt(kind, length, seed=length))
            calls.append(Call("ours", arrays(conditioned.graph_inputs(request, prompt)), kind, length))
    return calls


def calls_of(conditioned: ConditionedModule, lengths: Sequence[int]) -> list[Call]:
    """The timed calls of a network."""
    if isinstance(conditioned, ConditionedVision):
        return image_calls(conditioned, lengths)
    assert isinstance(conditioned, ConditionedTextEncoder)
    return text_calls(conditioned, lengths)


def arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Convert tensors to the arrays that an engine takes."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def require_equal(where: str, calls: Sequence[Call], graphs: Mapping[str, Engine]) -> float:
    """Check that the graphs agree: ours without a prompt with the one without prompt inputs, and folded with naive.

    Returns:
        The largest difference, relative to the largest number of the output.

    Raises:
        SystemExit: The difference exceeds `EQUAL_WITHIN`.
    """
    given = {call.name: graphs[call.graph].run(call.feeds, (OUTPUT,))[OUTPUT] for call in calls}
    same = [("none 0", "plain 0")]
    same += [(name, name.replace("folded", "naive")) for name in given if name.startswith("folded")]
    worst = 0.0
    for name, wanted in same:
        difference = float(np.abs(given[name] - given[wanted]).max() / np.abs(given[wanted]).max())
        if difference > EQUAL_WITHIN:
            raise SystemExit(f"{where}: {name} differs from {wanted} by {difference:.1e}, so nothing is timed")
        worst = max(worst, difference)
    return worst


def measure_on(
    where: str,
    conditioned: ConditionedModule,
    graphs: Mapping[str, Engine],
    lengths: Sequence[int],
    rounds: int,
    clock: Callable[[], int],
) -> Measured:
    """Measure one network on one engine; `where` names both."""
    calls = calls_of(conditioned, lengths)
    difference = require_equal(where, calls, graphs)
    actions = {call.name: partial(graphs[call.graph].run, call.feeds, (OUTPUT,)) for call in calls}
    times = interleaved_us(actions, rounds, clock, MOST_WARM_UP_ROUNDS)
    series = [
        Series(f"{where}: {call.name}", "ms", milliseconds(times[call.name]), call.kind, call.length) for call in calls
    ]
    ratios = []
    for pair in (EMPTY_PAIR, FOLDED_PAIR, PREFIX_PAIR):
        if pair.top in actions:
            pairs = f"in pairs of {pair.top} and {pair.bottom}"
            top, bottom = (f"{where}: {name}, {pairs}" for name in (pair.top, pair.bottom))
            top_run, bottom_run = actions[pair.top], actions[pair.bottom]
            found = ratios_to_neighbours(top_run, bottom_run, 2 * rounds, clock, MOST_WARM_UP_ROUNDS)
            series += [
                Series(name, "ms", milliseconds(samples)) for name, samples in zip((top, bottom), found, strict=True)
            ]
            ratios.append(Ratio(f"{where}: {pair.says}", top, bottom, goal=pair.goal))
    drawn = tuple(one for one in series if one.x is not None and one.line not in ("plain", "pixel"))
    plain = next(one for one in series if one.line == "plain")
    limits = {"a graph without prompt inputs": plain.median.value}
    chart = Chart(f"Time per request, {where}", tuple(one.name for one in drawn), x="virtual tokens", limits=limits)
    note = f"{where}: outputs that must be equal differ by at most {difference:.1e} of the largest number."
    return Measured(tuple(series), tuple(ratios), (chart,), notes=(note,))


def measure(
    networks: Sequence[str],
    engines: Sequence[str],
    lengths: Sequence[int],
    rounds: int | None,
    threads: int,
    clock: str,
) -> Measured:
    """Measure everything."""
    torch.set_num_threads(threads)
    found = Measured(())
    notes = [f"A text has {REQUEST_TOKENS} tokens, an image {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]} pixels; batch 1."]
    for name in networks:
        network = NETWORKS[name]
        conditioned = network.conditioned()
        notes.append(f"{name} has {network.weights}.")
        for engine in engines:
            graphs = opened_graphs(name, conditioned, engine, threads)
            where = f"{name} on {engine}"
            one = measure_on(where, conditioned, graphs, lengths, rounds or network.rounds, CLOCKS[clock])
            found = found.and_also(one)
    if set(networks) != set(NETWORKS) or set(engines) != set(ENGINES):
        notes.append("This run did not measure all networks and engines.")
    return found.and_also(Measured((), notes=tuple(notes)))


@click.command()
@click.option(
    "--network",
    "networks",
    type=click.Choice(list(NETWORKS)),
    multiple=True,
    help="Network to measure; repeatable.  [default: all]",
)
@click.option(
    "--engine",
    "engines",
    type=click.Choice(list(ENGINES)),
    multiple=True,
    default=list(ENGINES),
    help="Engine; repeatable.  [default: all]",
)
@click.option("--rounds", type=click.IntRange(2), help="Rounds.  [default: depends on the network]")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True, help="Clock.")
@options
def main(
    *,
    networks: tuple[str, ...],
    engines: tuple[str, ...],
    rounds: int | None,
    clock: str,
    quick: bool,
    threads: int,
    output: Path,
) -> None:
    """Measure and publish."""
    networks = networks or (QUICK_NETWORKS if quick else tuple(NETWORKS))
    lengths = QUICK_LENGTHS if quick else LENGTHS
    rounds = rounds or (QUICK_ROUNDS if quick else None)
    settings = {"networks": networks, "engines": engines, "lengths": lengths, "clock": clock, "threads": threads} | {
        "rounds": rounds or {name: NETWORKS[name].rounds for name in networks}
    }
    publish(__file__, __doc__, output, settings, lambda: measure(networks, engines, lengths, rounds, threads, clock))


if __name__ == "__main__":
    main()
