from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import EdgePromptError, InputError, MissingExtraError
from edge_prompt_export import export_backbone
from edge_prompt_runtime.bench import measurement as measuring
from edge_prompt_runtime.bench.measurement import measure
from edge_prompt_runtime.bench.plan import Plan
from edge_prompt_runtime.bench.prompts import BenchPrompt
from edge_prompt_runtime.bench.results import Results, read_results, write_results
from edge_prompt_runtime.bench.startup import ProcessEndedError, start
from edge_prompt_runtime.engines.base import ENGINES
from tests.conftest import BuildOnce, MakePrompt
from tests.export.modules import PromptedLinear
from tests.export.test_export_custom import LINEAR
from tests.runtime.test_runtime_arrays import MakeBundle, make_bundle

__all__ = ["make_bundle"]


def measured(bundle: Path, **changes: Any) -> Results:
    plan = Plan(bundle, **{"threads": 1, "rounds": 2, "starts": 0, "lengths": (2, 4), **changes})
    return measure(plan, lambda _what, _done, _of: None)


def names(results: Results) -> set[str]:
    return {series.name for series in results.series}


def test_texts_are_measured_on_every_engine(tiny_bundle: Path, make_prompt: MakePrompt, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    plan = Plan(
        tiny_bundle, (make_prompt("spam", classes=2),), threads=1, rounds=3, starts=1, lengths=(2, 4), batch=2, tokens=6
    )
    results = measure(plan, lambda *what: told.append(what))
    for engine in ENGINES:
        wanted = {
            "request, no prompt",
            "request, prompt spam",
            "request, soft of 4",
            "request, prefix of 2",
            "warm swap",
        }
        wanted |= {"each virtual token, soft", "cold swap, prompt spam", "load, fresh process", "peak until then"}
        assert {f"{engine}: {name}" for name in wanted} <= names(results)
    assert {len(series.samples) for series in results.series if "request" in series.name} == {3}
    assert {len(series.samples) for series in results.series if "fresh" in series.name} == {1}
    assert results.settings["request"] == {"input_ids": [2, 6]}
    assert (results.settings["threads"], list(results.settings["prompts"])) == (1, ["prompt spam"])
    assert results.notes[0].endswith("of the largest output.")
    assert not results.left_out
    assert ("fresh processes", 1, 1) in told
    write_results(tmp_path / "bench.json", results)
    assert names(read_results(tmp_path / "bench.json")) == names(results)


def test_the_cost_of_a_virtual_token_is_the_slope_over_length() -> None:
    found = {"e: request, no prompt": [1.0, 2.0]} | {f"e: request, soft of {n}": [1.0 + n, 2.0 + 2 * n] for n in (2, 4)}
    made = [BenchPrompt(f"soft of {n}", Path(), "soft", n) for n in (2, 4)]
    setting: Any = type("Stub", (), {"made": made})
    runtime: Any = type("Stub", (), {"engine": "e"})
    (slope,) = measuring._slopes(setting, runtime, "request", found)
    assert slope.samples == pytest.approx((1000, 2000))


def test_images_are_measured_with_the_kinds_that_they_take(tiny_image_bundle: Path) -> None:
    results = measured(tiny_image_bundle, engines=("onnxruntime",), image_size=(30, 40))
    wanted = {"request, pixel", "request, deep of 4", "cold swap, deep of 4", "each virtual token, deep"}
    assert {f"onnxruntime: {name}" for name in wanted} <= names(results)
    assert "reading a picture of 30 x 40" in names(results)
    assert results.settings["request"] == {"pixel_values": [1, 3, 32, 32]}


def test_language_models_generate(tiny_language_bundle: Path, engine: str) -> None:
    results = measured(tiny_language_bundle, engines=(engine,), new_tokens=4, tokens=5)
    rates = {series.name: series for series in results.series if series.unit == "tokens/s"}
    assert rates.keys() >= {f"{engine}: generation, no prompt"}
    assert all(series.higher_is_better and min(series.samples) > 0 for series in rates.values())
    assert {f"{engine}: first token, soft of 4", f"{engine}: warm swap"} <= names(results)


def test_custom_networks_are_measured_with_arrays(make_bundle: MakeBundle) -> None:
    results = measured(make_bundle("y", "features"), batch=3)
    assert results.settings["request"] == {"signal": [3, 3]}
    assert {"onnxruntime: request, no prompt", "onnxruntime: request, soft of 4"} <= names(results)


def test_the_arrays_of_a_reference_are_used(build_once: BuildOnce) -> None:
    bundle = build_once("linear", lambda folder: export_backbone(PromptedLinear(), folder, description=LINEAR))
    results = measured(bundle, engines=("openvino",), batch=3)
    assert results.settings["request"] == {"x": [3, 16]}
    assert "openvino: request, no prompt" in names(results)


def test_prompts_that_do_not_fit_are_named(tiny_bundle: Path) -> None:
    results = measured(tiny_bundle, engines=("onnxruntime",), lengths=(2, 60), tokens=8)
    assert results.left_out == dict.fromkeys(("soft of 60", "prefix of 60"), results.left_out["soft of 60"])
    assert "does not fit next to the 8 tokens" in results.left_out["soft of 60"]
    assert "onnxruntime: request, soft of 2" in names(results)


def test_without_prompts_there_is_the_network_alone(tiny_bundle: Path) -> None:
    found = names(measured(tiny_bundle, engines=("onnxruntime",), lengths=()))
    assert {name for name in found if "onnxruntime" in name} == {"onnxruntime: request, no prompt"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": 1000}, "requests of 1000 tokens"),
        ({"engines": ("unknown",)}, "'unknown'"),
        ({"prompts": (Path("nowhere.npy"),)}, "nowhere.npy"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny_bundle: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgePromptError, match=said):
        measured(tiny_bundle, **changes)


def test_two_prompts_of_one_name_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="two prompts named spam"):
        measured(tiny_bundle, prompts=(Path("a/spam.npy"), Path("b/spam.npy")))


def test_pictures_have_no_tokens(tiny_image_bundle: Path) -> None:
    with pytest.raises(InputError, match="--tokens 5 for a backbone whose modality is image"):
        measured(tiny_image_bundle, engines=("onnxruntime",), tokens=5)


def test_a_missing_engine_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(extra: str, wanted_by: str) -> None:
        if extra == "openvino":
            raise MissingExtraError(found=f"{wanted_by} needs openvino", wanted="the extra", remedy="run: pip install")

    monkeypatch.setattr("edge_prompt_runtime.engines.base.require_extra", require)
    results = measured(tiny_bundle)
    assert "needs openvino" in results.left_out["openvino"]
    assert not any(name.startswith("openvino") for name in names(results))
    with pytest.raises(MissingExtraError):
        measured(tiny_bundle, engines=("openvino",))


def test_a_process_that_ends_early_is_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "request.npz", nothing=np.zeros(1))
    with pytest.raises(ProcessEndedError, match="ended with 1 before it answered"):
        start(tiny_bundle, "onnxruntime", tmp_path / "request.npz", 1, None, "f32")
