"""One chat template, rendered as transformers renders it and kept from harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_prompt.base.errors import ChatTemplateError, MissingExtraError
from edge_prompt_runtime.inputs.chat.messages import Message, plain_messages, plain_value

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SOURCE_CHARACTERS = 1 << 20
"""The longest known are some 20,000."""

_SAFE_JINJA = (3, 1, 6)
"""Older ones have known ways out of the sandbox; transformers refuses them, too."""


class ChatTemplate:
    """A chat template. Any number of threads may render one.

    A template came with the model's files and is code. It runs in jinja2's sandbox, sees plain values only, and what it
    makes is counted: a template that loops without end or makes gigabytes is stopped (see `bounds`).

    Args:
        source: The template in Jinja.
        special_tokens: Variables such as `bos_token`, by name.

    Raises:
        ChatTemplateError: The source is too long.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise _error(f"a chat template of {len(source)} characters", f"at most {MAX_SOURCE_CHARACTERS}")
        self.source = source
        self.special_tokens = dict(special_tokens)
        self._compiled: Template | None = None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any) -> str:
        """The text of a chat; tokenise it without adding special tokens: it has them.

        Args:
            messages: `{"role": …, "content": …}` each.
            add_generation_prompt: Whether to end with what makes the model answer.
            **variables: More variables of the template, of plain values: `tools`, `documents`, `enable_thinking`, …

        Raises:
            InputError: Messages or variables are not such.
            ChatTemplateError: The template is malformed, refuses the messages, fails, reaches out of its sandbox, or
                takes too long or makes too much.
            MissingExtraError: jinja2 is not installed, or too old to be safe.
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
        from edge_prompt_runtime.inputs.chat import sandbox  # noqa: PLC0415 - jinja2 only where a template runs

        try:
            if self._compiled is None:
                self._compiled = sandbox.compiled(self.source)
            return sandbox.rendered(self._compiled, given)
        except Exception as error:  # a template is code, so it may fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise _error(f"the chat template fails ({reason[:200]})", "one that renders these messages") from error


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
            found=f"chat templates need jinja2, {'not installed here' if not version else 'here ' + __version__}",
            wanted=f"jinja2 {'.'.join(map(str, _SAFE_JINJA))} or newer, which the extras of the engines bring",
            remedy="run: pip install 'edge-prompt[onnxruntime]'",
        )
