from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt import Bundle, read_bundle
from edge_prompt.base.errors import ArrayFileError, ManifestError, ParityError, UnknownEngineError
from edge_prompt.formats.bundle import REFERENCE_NAME
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.storage.files import sha256_of
from edge_prompt.untrusted.npy import write_npz
from edge_prompt_runtime.reference import TOLERANCE, bounds_of, check_reference, compare_reference, difference


def tampered(folder: Path, name: str, change: float) -> Bundle:
    """The bundle with a number in its reference changed, and the digest in its manifest rewritten to hide that."""
    with np.load(folder / REFERENCE_NAME) as archive:
        arrays = dict(archive)
    arrays[name].flat[0] += change
    return with_reference(folder, arrays)


def with_reference(folder: Path, arrays: dict[str, NDArray[Any]]) -> Bundle:
    write_npz(folder / REFERENCE_NAME, arrays)
    manifest = folder / MANIFEST_NAME
    value = json.loads(manifest.read_text(encoding="utf-8"))
    value["files"][REFERENCE_NAME] = sha256_of(folder / REFERENCE_NAME)
    manifest.write_text(json.dumps(value), encoding="utf-8")
    return read_bundle(folder)


def test_a_bundle_gives_what_torch_gave(bundle: Bundle, engine: str) -> None:
    figures = check_reference(bundle, engine)
    assert figures.keys() == {"base", "soft", "prefix"}
    assert 0 <= max(figures.values()) <= TOLERANCE


@pytest.mark.parametrize("kind", ["base", "soft", "prefix"])
def test_another_number_than_torch_gave_is_refused_by_kind(bundle_copy: Path, engine: str, kind: str) -> None:
    with pytest.raises(ParityError, match=f"on {engine}, {kind}: the outputs differ by .* from torch"):
        check_reference(tampered(bundle_copy, f"features_{kind}", 0.01), engine)


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_another_prompt_than_torch_had_is_refused(bundle_copy: Path, engine: str, kind: str) -> None:
    with pytest.raises(ParityError, match=f"on {engine}, {kind}"):
        check_reference(tampered(bundle_copy, kind, 10), engine)


def with_weights(folder: Path, weights: str, parity: dict[str, Any] | None = None) -> Bundle:
    manifest = folder / MANIFEST_NAME
    value = json.loads(manifest.read_text(encoding="utf-8"))
    for graph in value["graphs"]:
        graph["weights"] = weights
    value["parity"] = parity or {}
    manifest.write_text(json.dumps(value), encoding="utf-8")
    return read_bundle(folder)


def test_a_graph_in_int8_may_be_three_times_as_far_as_when_it_was_quantised(bundle_copy: Path, engine: str) -> None:
    tampered(bundle_copy, "features_soft", 0.02)
    measured = compare_reference(read_bundle(bundle_copy), engine)
    assert measured["soft"] > TOLERANCE
    for share, is_allowed in ((1.0, True), (0.4, True), (0.3, False)):
        reference = measured | {"soft": share * measured["soft"]}
        bundle = with_weights(bundle_copy, "int8", {engine: {"reference": reference}})
        bound = bounds_of(bundle, engine)["soft"]
        assert bound == pytest.approx(3 * share * measured["soft"])
        if is_allowed:
            assert check_reference(bundle, engine) == pytest.approx(measured, abs=1e-5)
        else:
            with pytest.raises(ParityError, match=f"on {engine}, soft: .*; expected at most {bound:.2g}"):
                check_reference(bundle, engine)


@pytest.mark.parametrize("parity", [{}, {"reference": {}}, {"reference": {"base": "near", "soft": 1, "prefix": 1}}])
def test_a_graph_in_int8_of_which_nothing_was_measured_is_refused(
    bundle_copy: Path, engine: str, parity: dict[str, Any]
) -> None:
    with pytest.raises(ManifestError, match=f"parity: {engine}: .*'(reference|base)'"):
        check_reference(with_weights(bundle_copy, "int8", {engine: parity}), engine)


def test_weights_that_nobody_knows_are_refused(bundle_copy: Path, engine: str) -> None:
    with pytest.raises(ManifestError, match="has weights in 'int3'; expected one of fp32, fp16, int8, int4"):
        check_reference(with_weights(bundle_copy, "int3"), engine)


def test_an_altered_reference_is_refused(bundle_copy: Path) -> None:
    with (bundle_copy / REFERENCE_NAME).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ManifestError, match=f"{REFERENCE_NAME} is altered"):
        check_reference(read_bundle(bundle_copy), "onnxruntime")


def test_a_bundle_without_a_reference_is_refused(bundle_copy: Path) -> None:
    manifest = bundle_copy / MANIFEST_NAME
    value = json.loads(manifest.read_text(encoding="utf-8"))
    del value["files"][REFERENCE_NAME]
    manifest.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ManifestError, match=f"has no {REFERENCE_NAME}"):
        check_reference(read_bundle(bundle_copy), "onnxruntime")


def test_a_reference_without_a_kind_is_refused(bundle_copy: Path) -> None:
    with np.load(bundle_copy / REFERENCE_NAME) as archive:
        arrays = {name: array for name, array in archive.items() if name != "features_prefix"}
    with pytest.raises(ArrayFileError, match="expected exactly"):
        check_reference(with_reference(bundle_copy, arrays), "onnxruntime")


def test_an_unknown_engine_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UnknownEngineError, match="abacus"):
        check_reference(bundle, "abacus")


def test_the_difference_is_relative_above_one_and_absolute_below() -> None:
    assert difference({"x": np.array([0.5, 0.25])}, {"x": np.array([0.5, 0.5])}) == 0.25
    assert difference({"x": np.array([100.0, 0.0])}, {"x": np.array([100.0, 50.0])}) == 0.5


def test_the_difference_is_the_largest_of_all_outputs() -> None:
    reference = {"x": np.zeros(2), "y": np.zeros(2), "unused": np.ones(2)}
    assert difference({"x": np.array([0, 0.1]), "y": np.array([-0.3, 0])}, reference) == pytest.approx(0.3)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_differs_infinitely(number: float) -> None:
    assert difference({"x": np.array([0.0, number])}, {"x": np.zeros(2)}) == np.inf


def test_nothing_differs_from_nothing() -> None:
    assert difference({"x": np.zeros((0, 3))}, {"x": np.zeros((0, 3))}) == 0
