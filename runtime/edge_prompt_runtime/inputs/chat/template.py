"""A chat template, rendered like in transformers, in a sandbox with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_prompt.base.errors import ChatTemplateError, MissingExtraError
from edge_prompt_runtime.inputs.chat.messages import Message, plain_messages, plain_value

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SOURCE_CHARACTERS = 1 << 20
"""The longest known templates have about 20,000 characters."""

_SAFE_JINJA = (3, 1, 6)
"""Older versions have known sandbox escapes; transformers refuses them too."""


class ChatTemplate:
    """A chat template. Thread-safe.

    A template comes with the model's files and is untrusted code. It runs in jinja2's sandbox and sees plain values
    only. A template that loops endlessly or creates gigabytes is stopped (see `bounds`).

    Args:
        source: The Jinja source of the template.
        special_tokens: Variables such as `bos_token`, by name.

    Raises:
        ChatTemplateError: The source is too long.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise _error(f"the chat template has {len(source)} characters", f"at most {MAX_SOURCE_CHARACTERS}")
        self.source = source
        self.special_tokens = dict(special_tokens)
        self._compiled: Template | None = None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any) -> str:
        """Return the text of a chat. It contains its special tokens, so tokenise it without adding any.

        Args:
            messages: The messages, `{"role": …, "content": …}` each.
            add_generation_prompt: Whether to end with the text that starts the model's answer.
            **variables: Further variables of the template, as plain values: `tools`, `documents`, `enable_thinking`, …

        Raises:
            InputError: A message or variable is malformed.
            ChatTemplateError: The template is malformed, rejects the messages, fails, violates its sandbox, or exceeds
                a limit.
            MissingExtraError: jinja2 is not installed, or is too old to be safe.
        """
        given = {
            "tools": None,
            "documents": None,
            **self.special_tokens,
            **{name: plain_value(value, name) for name, value in variables.items()},
            "messages": plain_messages(messages),
            "add_generation_prompt": add_generation_prompt,
        }
        _require_jinja()
        from edge_prompt_runtime.inputs.chat import sandbox  # noqa: PLC0415 - imports jinja2

        try:
            if self._compiled is None:
                self._compiled = sandbox.compile_template(self.source)
            return sandbox.render_template(self._compiled, given)
        except Exception as error:  # a template is code, so it can fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise _error(
                f"the chat template fails ({reason[:200]})", "a template that renders these messages"
            ) from error


def _error(found: str, wanted: str) -> ChatTemplateError:
    return ChatTemplateError(
        found=found, wanted=wanted, remedy="correct the messages or the template, or format the text yourself"
    )


def _require_jinja() -> None:
    try:
        from jinja2 import __version__  # noqa: PLC0415
    except ImportError:
        __version__ = ""
    version = tuple(int(part) for part in __version__.split(".")[:3] if part.isdecimal())
    if version < _SAFE_JINJA:
        raise MissingExtraError(
            found=f"chat templates need jinja2, but {__version__ or 'no version of it'} is installed",
            wanted=f"jinja2 {'.'.join(map(str, _SAFE_JINJA))} or newer, which the extras of the engines install",
            remedy="run: pip install 'edge-prompt[onnxruntime]'",
        )
