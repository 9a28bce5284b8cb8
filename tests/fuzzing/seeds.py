"""Small valid files of every format that is read, as the start of mutations."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.manifest import Backbone, EncoderManifest, Graph, LanguageManifest, Manifest
from edge_prompt.formats.preprocessing import LanguagePreprocessing, TextPreprocessing
from tests.fuzzing.mutations import pack

DIGEST = "0123456789abcdef" * 4
LENGTH, WIDTH, LAYERS, HEADS = 2, 4, 1, 2

TEXT = TextPreprocessing(16, 32, 100, 2, 0, "pooler", normalize=False)


def text_manifest(model_type: str = "bert") -> EncoderManifest:
    """The manifest of a tiny text encoder that takes soft prompts and prefixes."""
    inputs, outputs = ("input_ids", "attention_mask", "soft_prompt", "prefix"), ("features",)
    graphs = {
        "onnxruntime": Graph("onnxruntime", "model.onnx", "fp32", inputs, outputs, {"model.onnx": DIGEST}),
        "openvino": Graph("openvino", "m.xml", "fp32", inputs, outputs, {"m.xml": DIGEST, "m.bin": DIGEST}, "m.bin"),
    }
    return EncoderManifest(
        backbone=Backbone("x", None, model_type, "M", "text-classification", 9, WIDTH, DIGEST, ("a", "b")),
        graphs=graphs,
        kinds={"soft": (None, WIDTH), "prefix": (LAYERS, 2, HEADS, None, WIDTH // HEADS)},
        refused_kinds={},
        preprocessing=TEXT,
        files={"tokenizer.json": DIGEST},
        parity={"onnxruntime": {"reference": {"base": 1e-6}}},
        versions={"edge-prompt": "0"},
    )


def language_manifest() -> LanguageManifest:
    """The manifest of a tiny language model."""
    past = tuple(f"past_key_values.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value"))
    present = tuple(f"present.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value"))
    inputs = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", "soft_prompt", "beam_idx")
    shared = ("input_ids", "position_ids", "logits_to_keep", "soft_prompt", *past, "seqlens_k", "total_sequence_length")
    graphs = {
        "openvino": Graph("openvino", "m.xml", "fp32", inputs, ("logits",), {"m.xml": DIGEST}),
        "onnxruntime": Graph("onnxruntime", "m.onnx", "fp32", shared, ("logits", *present), {"m.onnx": DIGEST}),
    }
    return LanguageManifest(
        backbone=Backbone("x", "main", "llama", "M", "text-generation", 9, WIDTH, DIGEST, ()),
        graphs=graphs,
        kinds={"soft": (None, WIDTH)},
        refused_kinds={"pixel": "no"},
        preprocessing=LanguagePreprocessing(64, 100),
        files={},
        parity={},
        versions={},
        kv_cache=((HEADS, WIDTH // HEADS),) * LAYERS,
    )


def npy(*shape: int, dtype: str = "<f4", order: str = "C") -> bytes:
    """An NPY file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(np.arange(np.prod(shape)).reshape(shape) / 7, dtype=dtype, order=order))  # type: ignore[call-overload]
    return buffer.getvalue()


def npz(**arrays: tuple[int, ...]) -> bytes:
    """An NPZ file of arrays of these shapes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.ones(shape, np.float32) for name, shape in arrays.items()})
    return buffer.getvalue()


def card(**other: Any) -> bytes:
    """A card; `$0` stands for the digest of the first of the other files, `$1` for that of the second."""
    said = {
        "format_version": 1,
        "kind": "soft",
        "shape": [LENGTH, WIDTH],
        "sha256": "$0",
        "fingerprint": DIGEST,
        "labels": ["a", "b"],
        "template": "a {text} b",
        "head": {"file": "x.head.npz", "sha256": "$1"},
        "max_tokens": 8,
        "provenance": {"made_by": "x", "score": 0.5},
    }
    return json.dumps({**said, **other}).encode()


HEAD = {"weight": (2, WIDTH), "bias": (2,)}
DENSE = {"weight": (2, 3), "bias": (2,), "dense_weight": (3, WIDTH), "dense_bias": (3,)}


def npys() -> list[bytes]:
    """Arrays of every valid dtype and rank."""
    return [npy(2, 3), npy(3, dtype="<f2"), npy(2, 2, dtype="<f8"), npy(2, 3, order="F"), npy(1, 2, 1, 2, 1, 2)]


def npzs() -> list[bytes]:
    """Heads."""
    return [npz(**HEAD), npz(**DENSE)]


def cards() -> list[bytes]:
    """Cards of every kind."""
    plain = card().replace(b"$0", DIGEST.encode()).replace(b"$1", DIGEST.encode())
    return [plain, plain.replace(b'"soft"', b'"prefix"').replace(b"[2, 4]", b"[1, 2, 2, 2, 2]")]


def prompts() -> list[bytes]:
    """Prompts with cards and heads."""
    dense = {"file": "x.head.npz", "sha256": "$1", "activation": "gelu"}
    return [
        pack([npy(LENGTH, WIDTH), npz(**HEAD), card()]),
        pack([npy(LENGTH, WIDTH), npz(**DENSE), card(head=dense)]),
        pack([npy(LENGTH, WIDTH), b"", card(head=None, labels=[])]),
    ]


def manifests() -> list[bytes]:
    """Manifests of every modality."""
    return [_written(text_manifest()), _written(language_manifest()), *_other_manifests()]


def _written(manifest: Manifest) -> bytes:
    from edge_prompt.formats.manifest import MANIFEST_NAME, write_manifest

    with TemporaryDirectory() as folder:
        write_manifest(Path(folder), manifest)
        return (Path(folder) / MANIFEST_NAME).read_bytes()


def _other_manifests() -> list[bytes]:
    """A network that reads images and folds deep prompts, and a user's own module."""
    graph = {"weights": "fp32", "outputs": ["features"], "weights_file": None, "compression": None}
    image = {
        **json.loads(_written(text_manifest())),
        "graphs": [
            {
                "engine": "openvino",
                "file": "m.xml",
                "inputs": ["pixel_values", "prefix", "pixel_prompt"],
                "sha256": {"m.xml": DIGEST},
                **graph,
            }
        ],
        "fold_graphs": [
            {"engine": "openvino", "file": "f.xml", "inputs": ["deep_prompt"], "sha256": {"f.xml": DIGEST}, **graph}
            | {"outputs": ["prefix"]}
        ],
        "kinds": {
            "deep": [1, "num_virtual_tokens", 4],
            "prefix": [1, 2, 2, "num_virtual_tokens", 2],
            "pixel": [3, 8, 8],
        },
        "preprocessing": {
            "modality": "image",
            "channels": 3,
            "height": 8,
            "width": 8,
            "settings": {
                "resize": "exact",
                "size": [8, 8],
                "multiple": 1,
                "resample": 3,
                "crop_size": [],
                "rescale_factor": 0.1,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "pad": "none",
                "pad_size": [],
            },
            "pooling": "cls",
            "normalize": False,
        },
    }
    own = {
        **image,
        "graphs": [{"engine": "openvino", "file": "m.xml", "inputs": ["x"], "sha256": {"m.xml": DIGEST}, **graph}],
        "fold_graphs": [],
        "kinds": {},
        "preprocessing": {"modality": "arrays", "inputs": {"x": {"dtype": "float32", "shape": [None, 3, None]}}},
    }
    return [json.dumps(image).encode(), json.dumps(own).encode()]


ADAPTER_TENSORS = {
    "prompt_embeddings": (LENGTH, WIDTH),
    "base_model.model.classifier.weight": (2, WIDTH),
    "base_model.model.classifier.bias": (2,),
}


def safetensors(shapes: Mapping[str, tuple[int, ...]] = ADAPTER_TENSORS, dtype: str = "F32") -> bytes:
    """A safetensors file."""
    width, place, header, data = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}[dtype], 0, {}, b""
    for name, shape in shapes.items():
        array: NDArray[np.uint8] = np.zeros(int(np.prod(shape)) * width, np.uint8)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
        data += array.tobytes()
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data


def adapter_config(**other: Any) -> bytes:
    """The content of `adapter_config.json`."""
    said = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": "x",
        "revision": None,
        "num_virtual_tokens": LENGTH,
        "token_dim": WIDTH,
        "num_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_transformer_submodules": 1,
    }
    return json.dumps({**said, **other}).encode()


def adapters() -> list[bytes]:
    """Adapters of several types."""
    prefix = {"prompt_embeddings": (LENGTH, LAYERS * 2 * WIDTH)}
    several = {
        "prompt_embeddings": (LENGTH, WIDTH),
        "prefix_task_cols": (2, LENGTH, 1),
        "prefix_task_rows": (2, 1, WIDTH),
    }
    return [
        pack([adapter_config(), safetensors()]),
        pack([adapter_config(peft_type="PREFIX_TUNING"), safetensors(prefix)]),
        pack([adapter_config(peft_type="MULTITASK_PROMPT_TUNING"), safetensors(several)]),
    ]


def safetensors_files() -> list[bytes]:
    """safetensors files of every dtype that is read."""
    return [safetensors(dtype=dtype) for dtype in ("F32", "F16", "BF16", "F64")]


def torch_files() -> list[bytes]:
    """Files of torch.save, in the present format and in the old one."""
    import torch

    made = []
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"a": torch.ones(2, 3), "b": torch.ones(3).half()}, buffer, _use_new_zipfile_serialization=new)
        made.append(buffer.getvalue())
    return made


def images() -> list[bytes]:
    """Pictures in every format that is decoded."""
    from PIL import Image

    pixels = (np.arange(9 * 7 * 3).reshape(9, 7, 3) % 256).astype(np.uint8)
    rgb, made = Image.fromarray(pixels), []
    grey = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
    variants: list[tuple[Any, str, dict[str, Any]]] = [
        (rgb, name, {}) for name in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
    ]
    variants += [(rgb.convert("P"), "PNG", {"transparency": 3}), (grey, "PNG", {}), (grey, "TIFF", {})]
    variants += [(rgb, "TIFF", {"compression": "tiff_lzw"}), (rgb, "JPEG", {"progressive": True})]
    variants += [(rgb.convert("1"), "PPM", {}), (rgb.convert("RGBA"), "WEBP", {"lossless": True})]
    exif = Image.Exif()
    exif[0x0112] = 6
    variants += [(rgb, "JPEG", {"exif": exif}), (rgb, "PNG", {"exif": exif})]
    for image, form, options in variants:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        made.append(buffer.getvalue())
    return made


def compiled() -> list[bytes]:
    """A compiled prompt: keys and values, and their card."""
    shape = (1, HEADS, LENGTH, WIDTH // HEADS)
    said = {
        "format_version": 1,
        "prompt_sha256": "$prompt",
        "graph_sha256": "$graph",
        "fingerprint": DIGEST,
        "sha256": "$0",
    }
    return [pack([npz(**{"0": shape, "1": shape}), json.dumps(said).encode()])]


def tokenizer_configs() -> list[bytes]:
    """Chat templates in `tokenizer_config.json`."""
    several = [{"name": "default", "template": "{{ x }}"}, {"name": "tool", "template": "y"}]
    return [
        json.dumps({"chat_template": "{{ bos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}}).encode(),
        json.dumps({"chat_template": several, "pad_token": None}).encode(),
    ]


def templates() -> list[bytes]:
    """Chat templates."""
    first = (
        b"{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{% if loop.last %}!{% endif %}{% endfor %}"
        b"{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    second = (
        b"{% macro a(x) %}{{ x|tojson }}{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages %}"
        b"{% set ns.n = ns.n + 1 %}{{ a(m) }}{% endfor %}{{ raise_exception('x') if ns.n > 9 }}{{ bos_token ~ ns.n }}"
    )
    return [first, second]


def generation_configs() -> list[bytes]:
    """Contents of `generation_config.json`."""
    said = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 9,
        "top_p": 0.9,
        "eos_token_id": [1, 2],
        "max_new_tokens": 8,
    }
    return [json.dumps(said).encode(), json.dumps({"eos_token_id": 2, "stop_strings": ["x"], "num_beams": 4}).encode()]


def onnx_models() -> list[bytes]:
    """ONNX models: with external weights, a nested graph, a function, and ONNX Runtime's own operators."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, said in {"location": "w.bin", "offset": "0", "length": "16"}.items():
        weight.external_data.add(key=key, value=said)
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["y"], name="n")], "branch", [], [value])
    nodes = [
        helper.make_node("Add", ["x", "w"], ["z"], name="a"),
        helper.make_node("If", ["c"], ["q"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMulNBits", ["z", "w"], ["y"], domain="com.microsoft", K=4, N=4),
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.FLOAT, [2], [1.0, 2.0])),
    ]
    graph = helper.make_graph(
        nodes, "g", [value], [value], [weight, helper.make_tensor("v", 1, [1], b"\0" * 4, raw=True)]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    function = helper.make_function("", "F", ["x"], ["y"], [nodes[0]], opsets[:1])
    models = [helper.make_model(graph, opset_imports=opsets, functions=functions) for functions in ([], [function])]
    return [model.SerializeToString() for model in models]


def openvino_nets() -> list[bytes]:
    """An OpenVINO IR as OpenVINO writes it, and variants, with a nested graph."""
    plain = b"""<?xml version="1.0"?>
<net name="Model0" version="11">
\t<layers>
\t\t<layer id="0" name="x" type="Parameter" version="opset1">
\t\t\t<data shape="?,4" element_type="f32" />
\t\t\t<output><port id="0" precision="FP32" names="x"><dim>-1</dim><dim>4</dim></port></output>
\t\t</layer>
\t\t<layer id="1" name="w" type="Const" version="opset1">
\t\t\t<data element_type="f32" shape="4" offset="0" size="16" />
\t\t\t<output><port id="0" precision="FP32"><dim>4</dim></port></output>
\t\t</layer>
\t</layers>
\t<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0" /></edges>
\t<rt_info><edge_prompt><source value="x" /></edge_prompt></rt_info>
</net>
"""
    inner = plain[plain.index(b"<layers>") : plain.index(b"<rt_info>")]
    nested = b'<layer id="2" type="If" version="opset8"><then_body>' + inner + b"</then_body></layer></layers>"
    other = plain.replace(
        b'id="1" name="w" type="Const" version="opset1"', b"version='opset1' id='1' name='a>b' type='Const'"
    )
    return [
        plain,
        plain.replace(b"</layers>", nested),
        other.replace(b'"1.0"', b"'1.0' encoding='utf-8'"),
    ]


def results() -> list[bytes]:
    """Results of benchmarks."""
    ours = {"name": "ours", "unit": "ms", "samples": [1.0, 2.5, 3], "line": "a", "x": 1.0, "higher_is_better": False}
    theirs = {**ours, "name": "theirs", "line": "", "x": None, "higher_is_better": True}
    ratio = {"name": "r", "top": "ours", "bottom": "theirs", "paired": True, "goal": 1.5, "at_least": False}
    said = {
        "format_version": 1,
        "name": "bench",
        "question": "How fast?",
        "begun": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "machine": {"cores": 2, "load_average": "0.10"},
        "versions": {"numpy": "2"},
        "commit": "",
        "settings": {"threads": 2, "prompts": {"a": DIGEST}},
        "series": [ours, theirs],
        "ratios": [ratio],
        "charts": [{"title": "t", "series": ["ours", "theirs"], "x": "", "log": True, "limits": {"goal": 1}}],
        "left_out": {"peer": "why"},
        "notes": ["One."],
    }
    bare = {**said, "series": [ours], "ratios": [{**ratio, "bottom": "ours", "goal": None}], "charts": []}
    return [json.dumps(said).encode(), json.dumps(bare).encode()]
