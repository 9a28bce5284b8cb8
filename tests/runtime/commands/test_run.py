from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_prompt import read_bundle
from edge_prompt.formats.manifest import EncoderManifest, write_manifest
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.cores import available_cores
from tests.conftest import MakeImage, MakePrompt

Command = Callable[..., tuple[int, str, str]]


def test_a_text_is_classified(command: Command, tiny_bundle: Path, make_prompt: MakePrompt, engine: str) -> None:
    prompt = make_prompt("spam", "prefix", classes=3)
    code, out, _ = command("run", tiny_bundle, "--prompt", prompt, "--text", "w1 w2", "--engine", engine)
    runtime = Runtime(tiny_bundle, engine)
    runtime.load("spam", prompt)
    answer = runtime.classify("w1 w2", task="spam")
    assert (code, out) == (0, f"{answer.label}\t{answer.score:.4f}\n")


def test_json_gives_every_score(command: Command, tiny_bundle: Path, make_prompt: MakePrompt) -> None:
    prompt = make_prompt("spam", classes=2)
    code, out, _ = command("run", tiny_bundle, "--prompt", prompt, "--text", "w1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["label"] in answer["scores"]
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_without_a_head_it_embeds(command: Command, tiny_bundle: Path) -> None:
    code, out, _ = command("run", tiny_bundle, "--text", "w1 w2", "--json")
    wanted = Runtime(tiny_bundle).embed("w1 w2")
    assert code == 0
    assert np.allclose(json.loads(out)["embedding"], wanted, atol=1e-6)


def test_the_precision_is_the_engines(command: Command, tiny_bundle: Path) -> None:
    arguments = ("run", tiny_bundle, "--text", "w1 w2", "--precision", "bf16")
    code, _, err = command(*arguments, "--engine", "onnxruntime")
    assert code == 1
    assert err.startswith("Error: the precision bf16 is not available on ONNX Runtime's CPU")
    code, out, err = command(*arguments, "--engine", "openvino", "--json")
    if code == 0:
        exact = Runtime(tiny_bundle, "openvino").embed("w1 w2")
        assert 0 < np.abs(np.array(json.loads(out)["embedding"]) - exact).max() < 0.1
    else:
        assert "this processor does not support the precision bf16" in err


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("0-1", 2, "'0-1' is not a list of cores such as 2,3"),
        ("1,", 2, "'1,' is not a list of cores"),
        ("99999", 1, "Error: this process cannot use the cores [99999]; expected one or more of"),
    ],
)
def test_cores_are_a_list_of_those_there_are(
    command: Command, tiny_bundle: Path, given: str, code: int, said: str
) -> None:
    found, _, err = command("run", tiny_bundle, "--text", "w1", "--cores", given)
    assert found == code
    assert said in err


def test_a_text_is_answered_on_the_cores_asked_for(command: Command, tiny_bundle: Path) -> None:
    core = max(available_cores())
    code, out, _ = command(
        "run", tiny_bundle, "--text", "w1", "--json", "--engine", "onnxruntime", "--cores", f"{core}"
    )
    assert code == 0
    assert np.allclose(json.loads(out)["embedding"], Runtime(tiny_bundle).embed("w1"), atol=1e-6)


def test_tokens_are_labelled(command: Command, tiny_tagger_bundle: Path) -> None:
    code, out, _ = command("run", tiny_tagger_bundle, "--text", "w1 w2", "--json")
    assert code == 0
    assert [token["text"] for token in json.loads(out)["tokens"]] == ["w1", "w2"]


def test_a_file_is_answered_line_by_line(
    command: Command, tiny_bundle: Path, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    texts = [" ".join(["w3"] * (number % 5 + 1)) for number in range(37)]
    path = tmp_path / "in.jsonl"
    path.write_text("\n\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    prompt = make_prompt("spam", classes=2)
    code, out, err = command("run", tiny_bundle, "--prompt", prompt, "--input", path, "--json")
    runtime = Runtime(tiny_bundle)
    runtime.load("spam", prompt)
    assert code == 0
    assert err == ""
    assert [json.loads(line)["label"] for line in out.splitlines()] == [
        runtime.classify(text, task="spam").label for text in texts
    ]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"text": ""}', '{"text": 3}', '{"image": "a.png"}', "\udcff"])
def test_a_broken_line_is_named(command: Command, tiny_bundle: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "w1"}\n' + line.encode("utf-8", "surrogateescape") + b"\n")
    code, _, err = command("run", tiny_bundle, "--input", path)
    assert code == 1
    assert "line 2" in err
    assert err.startswith("Error: ")


def test_a_long_text_is_truncated_with_one_line_of_warning(tiny_bundle: Path) -> None:
    arguments = ["run", str(tiny_bundle), "--text", "w1 " * 99]
    ended = subprocess.run(
        [sys.executable, "-m", "edge_prompt", *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stderr.startswith("Warning: text 0 ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--text", "w1", "--input", "x.jsonl"),
        ("--text", "w1", "--image", "x.png"),
        ("--image", "x.png", "--input", "x.jsonl"),
    ],
)
def test_exactly_one_of_text_image_and_input_is_required(
    command: Command, tiny_bundle: Path, arguments: tuple[str, ...]
) -> None:
    code, _, err = command("run", tiny_bundle, *arguments)
    assert code == 2
    assert "pass exactly one of --text, --image and --input" in err


def test_an_image_is_classified(
    command: Command, tiny_image_bundle: Path, make_image: MakeImage, make_prompt: MakePrompt, engine: str
) -> None:
    image, prompt = make_image("cat"), make_prompt("pets", "deep", classes=2, bundle=tiny_image_bundle)
    runtime = Runtime(tiny_image_bundle, engine)
    runtime.load("pets", prompt)
    for arguments, answer in (
        ((), runtime.classify(image)),
        (("--prompt", prompt), runtime.classify(image, task="pets")),
    ):
        code, out, _ = command("run", tiny_image_bundle, "--image", image, "--engine", engine, *arguments)
        assert (code, out) == (0, f"{answer.label}\t{answer.score:.4f}\n")


def test_a_file_of_images_is_answered_line_by_line(
    command: Command, tiny_image_bundle: Path, make_image: MakeImage, tmp_path: Path
) -> None:
    images = [make_image(f"picture_{number}", 30 + number, 40) for number in range(19)]
    path = tmp_path / "in.jsonl"
    named = [
        image if number % 2 else image.name for number, image in enumerate(images)
    ]  # absolute, and beside the file
    path.write_text("\n".join(json.dumps({"image": str(name)}) for name in named), encoding="utf-8")
    code, out, _ = command("run", tiny_image_bundle, "--input", path, "--json")
    runtime = Runtime(tiny_image_bundle)
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == [
        runtime.classify(image).label for image in images
    ]


def test_objects_are_found(command: Command, tiny_detector_bundle: Path, make_image: MakeImage) -> None:
    image = make_image("cat")
    wanted = Runtime(tiny_detector_bundle).detect(image)
    assert wanted
    code, out, _ = command("run", tiny_detector_bundle, "--image", image, "--json")
    found = json.loads(out)["detections"]
    assert code == 0
    assert [one["label"] for one in found] == [one.label for one in wanted]
    np.testing.assert_allclose([one["score"] for one in found], [one.score for one in wanted], atol=1e-5)
    np.testing.assert_allclose([one["box"] for one in found], [one.box for one in wanted], atol=1e-2)
    code, out, _ = command("run", tiny_detector_bundle, "--image", image)
    first = wanted[0]
    assert code == 0
    assert out.startswith(f"{first.label} {first.score:.4f} ({', '.join(f'{edge:.0f}' for edge in first.box)})")
    assert len(out.strip().split("\t")) == len(wanted)


def test_the_pixels_of_each_label_are_counted(
    command: Command, tiny_segmenter_bundle: Path, make_image: MakeImage
) -> None:
    image = make_image("cat", 40, 30)
    found = Runtime(tiny_segmenter_bundle).segment(image)
    counts = {label: int((found.map == index).sum()) for index, label in enumerate(found.labels)}
    code, out, _ = command("run", tiny_segmenter_bundle, "--image", image, "--json")
    pixels = json.loads(out)["pixels"]
    assert code == 0
    assert pixels == {label: count for label, count in counts.items() if count}
    assert list(pixels.values()) == sorted(pixels.values(), reverse=True)
    code, out, _ = command("run", tiny_segmenter_bundle, "--image", image)
    assert (code, out) == (0, "\t".join(f"{label} {count / 1200:.1%}" for label, count in pixels.items()) + "\n")


def test_a_task_with_a_head_classifies_whatever_the_backbone_does(
    command: Command, tiny_segmenter_bundle: Path, make_image: MakeImage, make_prompt: MakePrompt
) -> None:
    prompt = make_prompt("scene", "pixel", classes=2, bundle=tiny_segmenter_bundle)
    code, out, _ = command("run", tiny_segmenter_bundle, "--prompt", prompt, "--image", make_image("cat"), "--json")
    assert code == 0
    assert json.loads(out)["scores"].keys() == {"scene_0", "scene_1"}


def test_a_text_for_images_and_an_image_for_texts_are_refused(
    command: Command, tiny_bundle: Path, tiny_image_bundle: Path, make_image: MakeImage
) -> None:
    for arguments, found in (
        ((tiny_bundle, "--image", make_image("cat")), "--image for a backbone for texts; expected --text"),
        ((tiny_image_bundle, "--text", "w1"), "--text for a backbone for images; expected --image"),
    ):
        code, out, err = command("run", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert found in err


def test_a_backbone_of_arrays_is_asked_from_python(command: Command, bundle_copy: Path) -> None:
    manifest = read_bundle(bundle_copy).manifest
    assert isinstance(manifest, EncoderManifest)
    graphs = {name: replace(graph, inputs=("x", "soft_prompt", "prefix")) for name, graph in manifest.graphs.items()}
    arrays = ArrayPreprocessing({"x": ArrayInput("float32", (None, 3))})
    write_manifest(bundle_copy, replace(manifest, graphs=graphs, preprocessing=arrays))
    code, out, err = command("run", bundle_copy, "--text", "w1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is arrays; expected a backbone for texts or images" in err


@pytest.mark.parametrize("line", ["{", "{}", '{"image": ""}', '{"image": 3}', '{"text": "w1"}'])
def test_a_broken_line_of_a_file_of_images_is_named(
    command: Command, tiny_image_bundle: Path, tmp_path: Path, line: str
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line, encoding="utf-8")
    code, _, err = command("run", tiny_image_bundle, "--input", path)
    assert code == 1
    assert "line 1" in err
    assert '{"image": "…"}' in err


def test_errors_with_images_are_one_line(command: Command, tiny_image_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    listed = tmp_path / "in.jsonl"
    listed.write_text('{"image": "nul\\u0000.png"}', encoding="utf-8")
    for arguments in (("--image", broken), ("--image", tmp_path / "missing.png"), ("--input", listed)):
        code, out, err = command("run", tiny_image_bundle, *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("Error: ")


def test_errors_are_one_line(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"no array")
    missing = tmp_path / "missing"
    for arguments in (
        (tiny_bundle, "--prompt", bad, "--text", "w1"),
        (tiny_bundle, "--prompt", missing, "--text", "w1"),
        (missing, "--text", "w1"),
        (tiny_bundle, "--text", " "),
        (tiny_bundle, "--input", missing),
    ):
        code, out, err = command("run", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("Error: ")
