from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openvino
import pytest
import torch
from torch import Tensor, nn

from edge_prompt_export.conditioning.position_embeddings import keep_interpolated_positions
from edge_prompt_export.modalities.image.network import ConditionedVision

Network = Callable[..., Any]

SMALL, LARGE = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 48, 32)


class Hidden(nn.Module):
    """A network's last hidden state."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.network(images).last_hidden_state
        return hidden


def interpolations(graph: str) -> int:
    return graph.count("upsample_bicubic") + graph.count("interpolate")


def trace_of(network: nn.Module, images: Tensor) -> Any:
    return openvino.convert_model(Hidden(network), example_input=images)


def traced(network: nn.Module) -> str:
    return " ".join(node.get_type_name().lower() for node in trace_of(network, SMALL).get_ops())


def exported(network: nn.Module) -> str:
    return str(torch.export.export(Hidden(network), (SMALL,)).graph)


@pytest.mark.parametrize("graph_of", [traced, exported])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_graph_of_one_image_size_interpolates_nothing(
    graph_of: Callable[[nn.Module], str], image_network: Network
) -> None:
    network = image_network("dinov2-registers")
    assert interpolations(graph_of(network)) > 0
    keep_interpolated_positions(network)
    with torch.no_grad():
        network(SMALL)
    assert interpolations(graph_of(network)) == 0


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_graph_of_a_size_that_was_not_run_interpolates(image_network: Network) -> None:
    network = image_network("dinov2-registers")
    keep_interpolated_positions(network)
    with torch.no_grad():
        network(LARGE)
    assert interpolations(traced(network)) > 0


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_graph_gives_what_the_network_gives(image_network: Network) -> None:
    network = image_network("dinov2-registers")
    with torch.no_grad():
        reference = network(SMALL).last_hidden_state
        keep_interpolated_positions(network)
        for images in (SMALL, LARGE):  # two sizes are kept apart
            network(images)
        graph = openvino.compile_model(trace_of(network, SMALL[:1]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = torch.from_numpy(graph(SMALL.numpy())[0])
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-4)


def test_outside_of_graphs_positions_are_those_of_the_weights_of_now(image_network: Network) -> None:
    network, fresh = image_network("dinov2"), image_network("dinov2")
    keep_interpolated_positions(network)
    with torch.no_grad():
        network(SMALL)
        for one in (network, fresh):
            one.embeddings.position_embeddings.mul_(2)
        assert torch.equal(network(SMALL).last_hidden_state, fresh(SMALL).last_hidden_state)
        assert torch.equal(network(LARGE).last_hidden_state, fresh(LARGE).last_hidden_state)


def test_positions_that_come_as_an_argument_are_no_size(image_network: Network) -> None:
    network, fresh = image_network("hiera"), image_network("hiera")
    keep_interpolated_positions(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        kept, plain = (one(images, interpolate_pos_encoding=True).last_hidden_state for one in (network, fresh))
    assert torch.equal(kept, plain)


@pytest.mark.parametrize(("size", "keeps"), [((32, 48), True), (None, False)])
def test_positions_are_kept_where_images_have_one_size(
    size: tuple[int, int] | None, *, keeps: bool, image_network: Network
) -> None:
    network = image_network("dinov2")
    ConditionedVision(network, "image-feature-extraction", None, size)
    assert ("interpolate_pos_encoding" in vars(network.embeddings)) == keeps
