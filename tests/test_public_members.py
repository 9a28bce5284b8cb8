"""The public names of each package: adding or removing one is a decision, which this test makes visible."""

from __future__ import annotations

import importlib

import pytest

MEMBERS: dict[str, tuple[str, ...]] = {
    "edge_prompt": (
        "Bundle",
        "Card",
        "Dense",
        "EdgePromptError",
        "EncoderManifest",
        "Head",
        "LanguageManifest",
        "Manifest",
        "Prompt",
        "__version__",
        "read_bundle",
        "read_prompt",
        "write_prompt",
    ),
    "edge_prompt_export": (
        "ArrayInput",
        "ModuleDescription",
        "TuneSettings",
        "export_adapter",
        "export_backbone",
        "import_adapter",
        "quantize_bundle",
        "tune_prompt",
    ),
    "edge_prompt_runtime": (
        "Classification",
        "Generation",
        "GenerationConfigWarning",
        "Piece",
        "Runtime",
        "TokenLabel",
        "TruncationWarning",
        "Trust",
    ),
}


@pytest.mark.parametrize(("package", "members"), MEMBERS.items(), ids=MEMBERS)
def test_the_public_members_are_these(package: str, members: tuple[str, ...]) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(members)
    assert all(hasattr(module, name) for name in members)
