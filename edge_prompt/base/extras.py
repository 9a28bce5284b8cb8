"""The optional extras of the distribution, and the error for a missing one."""

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
    "metrics": ("prometheus_client",),
}
"""The packages that each extra installs, by import name."""


def require_extra(extra: str, wanted_by: str) -> None:
    """Check that the packages of `extra` are installed.

    Raises:
        MissingExtraError: One of them is not installed. The message contains the pip command.
    """
    missing = [package for package in EXTRA_PACKAGES[extra] if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            found=f"{wanted_by} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            wanted=f"the extra {extra!r}",
            remedy=f"run: pip install 'edge-prompt[{extra}]'",
        )
