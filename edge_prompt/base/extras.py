"""The extras of the distribution, and the sentence that a missing one is answered with."""

from __future__ import annotations

from importlib.util import find_spec

from edge_prompt.base.errors import MissingExtraError

_EXPORT = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino", "tokenizers", "PIL", "jinja2")

EXTRA_PACKAGES = {
    "onnxruntime": ("onnxruntime", "tokenizers", "PIL", "jinja2"),
    "openvino": ("openvino", "tokenizers", "PIL", "jinja2"),
    "export": _EXPORT,
    "quantize": (*_EXPORT, "nncf"),
    "sign": ("model_signing", "OpenSSL"),
    "watch": ("watchfiles",),
}
"""What each extra brings, by import name."""


def require_extra(extra: str, wanted_by: str) -> None:
    """Refuse to go on without the packages of `extra`.

    Raises:
        MissingExtraError: One of them is not installed; the message gives the pip line.
    """
    missing = [package for package in EXTRA_PACKAGES[extra] if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            found=f"{wanted_by} needs {', '.join(missing)}, not installed here",
            wanted=f"the extra {extra!r}",
            remedy=f"run: pip install 'edge-prompt[{extra}]'",
        )
