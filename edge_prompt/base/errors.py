"""The errors that edge-prompt raises, one class per cause.

Every error derives from `EdgePromptError` and from the matching builtin, so `except ValueError` works as Python users
expect. Each message states what was found, what was expected, and how to fix it.
"""

from __future__ import annotations


class EdgePromptError(Exception):
    """Base class of all errors that edge-prompt raises deliberately.

    Args:
        found: What was found, including the name of the file or argument.
        wanted: What would have been accepted.
        remedy: How to fix it, in the imperative.
    """

    def __init__(self, *, found: str, wanted: str, remedy: str) -> None:
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
        super().__init__(f"{found}; expected {wanted}. {remedy[:1].upper()}{remedy[1:]}")

    def __str__(self) -> str:
        """Return the message itself; `KeyError` would return its repr."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the three parts when the error is pickled, for example to cross a process boundary."""
        return _rebuild, (type(self), self.found, self.wanted, self.remedy)


def _rebuild(cls: type[EdgePromptError], found: str, wanted: str, remedy: str) -> EdgePromptError:
    return cls(found=found, wanted=wanted, remedy=remedy)


class MissingFileError(EdgePromptError, FileNotFoundError):
    """A file or folder does not exist."""


class ReadError(EdgePromptError, OSError):
    """A file exists but cannot be read."""


class UnsafePathError(EdgePromptError, ValueError):
    """A path in a manifest or card leaves its folder, or is not a plain relative path."""


class WriteError(EdgePromptError, OSError):
    """A file could not be written; any earlier content is unchanged."""


class ArrayFileError(EdgePromptError, ValueError):
    """An `.npy` or `.npz` file is malformed, truncated, or contains data that is not allowed in a prompt or head."""


class PromptShapeError(EdgePromptError, ValueError):
    """A prompt's shape does not fit its kind or the bundle."""


class PromptKindError(EdgePromptError, ValueError):
    """The kind of a prompt is unknown, ambiguous, or not supported by the bundle."""


class HeadError(EdgePromptError, ValueError):
    """A head is missing, or does not fit the features or the labels."""


class CardError(EdgePromptError, ValueError):
    """A card is malformed, or does not match the array next to it."""


class ManifestError(EdgePromptError, ValueError):
    """A manifest is malformed, has a newer format version, or names a file that is missing or altered."""


class FingerprintError(EdgePromptError, ValueError):
    """A prompt was tuned on different weights than those of the bundle."""


class TrustError(EdgePromptError, ValueError):
    """A bundle or prompt has no valid signature by the trusted signer."""


class UnknownTaskError(EdgePromptError, KeyError):
    """No task of that name is loaded."""


class UnknownEngineError(EdgePromptError, ValueError):
    """The engine does not exist, or the bundle has no graph for it."""


class MissingExtraError(EdgePromptError, ImportError):
    """A package from an optional extra is required but not installed."""


class InputError(EdgePromptError, ValueError):
    """A request or an argument is invalid."""


class QueueFullError(EdgePromptError, RuntimeError):
    """The queue is full, and another request was refused."""


class RequestTimeoutError(EdgePromptError, TimeoutError):
    """A request exceeded its timeout and was dropped before it ran."""


class ClosedError(EdgePromptError, RuntimeError):
    """The object has already been closed."""


class ChatTemplateError(EdgePromptError, ValueError):
    """A chat template is malformed, rejects the messages, or uses a feature that is not allowed."""


class LogitsError(EdgePromptError, ArithmeticError):
    """The network returned logits from which no token can be chosen."""


class UnsupportedArchitectureError(EdgePromptError, ValueError):
    """The architecture of the backbone does not support prompts of that kind."""


class BackboneError(EdgePromptError, ValueError):
    """A backbone cannot be loaded, or lacks weights that its task requires."""


class ParityError(EdgePromptError, ArithmeticError):
    """An exported graph and the original network give different outputs."""


class TrainingDataError(EdgePromptError, ValueError):
    """A training file is malformed, or cannot be used to tune a prompt."""


class AdapterError(EdgePromptError, ValueError):
    """A PEFT adapter is malformed, is not a prompt, or does not fit this backbone."""


class ResultsError(EdgePromptError, ValueError):
    """A file does not contain benchmark results, or has another format version."""
