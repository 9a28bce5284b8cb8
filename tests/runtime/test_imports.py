from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edge_prompt
from edge_prompt_runtime.engines.base import ENGINES

EXPORT_ONLY = {"torch", "transformers", "onnx", "onnxscript", "edge_prompt_export", "safetensors"}
NOT_FOR_AN_IMPORT = {
    *EXPORT_ONLY,
    "onnxruntime",
    "openvino",
    "click",
    "rich",
    "tokenizers",
    "jinja2",
    "asyncio",
    "prometheus_client",
}


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after a fresh interpreter has run `code`."""
    code = f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.strip().rpartition("\n")[2].split())


def packages_after(code: str) -> set[str]:
    """The packages that are loaded after a fresh interpreter has run `code`."""
    return {name.partition(".")[0] for name in modules_after(code)}


@pytest.mark.parametrize("package", ["edge_prompt", "edge_prompt_runtime", "edge_prompt_runtime.generation.loop"])
def test_an_import_loads_neither_an_engine_nor_the_export_side(package: str) -> None:
    packages = packages_after(f"import {package}")
    assert package.partition(".")[0] in packages
    assert not packages & NOT_FOR_AN_IMPORT


def test_an_import_loads_nothing_that_only_an_open_bundle_needs() -> None:
    modules = modules_after("from edge_prompt_runtime import Runtime")
    assert "edge_prompt_runtime.runtime" in modules
    assert not modules & {
        "numpy",
        "edge_prompt.formats.bundle",
        "edge_prompt_runtime.factory",
        "edge_prompt_runtime.engines.base",
    }


@pytest.mark.parametrize("package", ["edge_prompt", "edge_prompt_runtime"])
def test_every_public_name_is_there_once_it_is_asked_for(package: str) -> None:
    asked = f"import {package} as it\nfor name in it.__all__:\n    getattr(it, name)\n    assert name in dir(it)"
    assert package in packages_after(asked)
    assert "torch" not in packages_after(f"from {package} import *")


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'edge_prompt' has no attribute 'nothing'"):
        getattr(edge_prompt, "nothing")  # noqa: B009 - what is checked


def test_what_only_language_models_need_is_loaded_for_them_alone(tiny_bundle: Path) -> None:
    modules = modules_after(f"from edge_prompt_runtime import Runtime\nRuntime({str(tiny_bundle)!r}).embed('w1')")
    assert "edge_prompt_runtime.inputs.text.requests" in modules
    assert not {name for name in modules if name.startswith("edge_prompt_runtime.language.")}
    assert not modules & {f"edge_prompt_runtime.generation.{name}" for name in ("loop", "sampling", "model_defaults")}


def test_the_contract_does_not_know_the_runtime() -> None:
    assert "edge_prompt_runtime" not in packages_after("import edge_prompt")


def test_a_runtime_loads_no_other_engine_than_its_own(tiny_bundle: Path, engine: str) -> None:
    packages = packages_after(
        f"from edge_prompt_runtime import Runtime\nRuntime({str(tiny_bundle)!r}, engine={engine!r}).embed('w1')"
    )
    assert engine in packages
    assert not packages & (ENGINES.keys() - {engine})
    assert not packages & (EXPORT_ONLY - {"onnx"})


def test_signatures_are_looked_at_only_where_someone_is_trusted(tiny_bundle: Path) -> None:
    assert not packages_after(
        f"from edge_prompt_runtime import Runtime, Trust\nTrust.key('x')\nRuntime({str(tiny_bundle)!r})"
    ) & {"model_signing", "cryptography", "sigstore", "OpenSSL"}


def test_token_arrays_need_no_tokenizer(tiny_bundle: Path, engine: str) -> None:
    packages = packages_after(
        "import numpy\nfrom edge_prompt_runtime import Runtime\n"
        f"Runtime({str(tiny_bundle)!r}, engine={engine!r}).embed({{'input_ids': numpy.array([[2, 7, 3]])}})"
    )
    assert "tokenizers" not in packages


def test_jinja_is_loaded_once_a_chat_template_is_rendered() -> None:
    made = "from edge_prompt_runtime.inputs.chat import ChatTemplate\ntemplate = ChatTemplate('x', {})"
    assert "jinja2" not in packages_after(made)
    packages = packages_after(f"{made}\ntemplate.render([{{'role': 'user', 'content': 'x'}}])")
    assert "jinja2" in packages
    assert not packages & (NOT_FOR_AN_IMPORT - {"jinja2"})


def test_measuring_needs_the_runtime_alone(tiny_bundle: Path, engine: str) -> None:
    packages = packages_after(
        "from edge_prompt.cli import main\ntry:\n"
        f"    main(['bench', {str(tiny_bundle)!r}, '--engine', {engine!r}, '--rounds', '1', '--starts', '0'])\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    assert {"rich", engine} <= packages
    assert not packages & (ENGINES.keys() - {engine})
    assert not packages & (EXPORT_ONLY - {"onnx"})
