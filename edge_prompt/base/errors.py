"""What can go wrong, one class a cause.

Every error is an `EdgePromptError` and also the builtin it is, so `except ValueError` works as Python users expect.
Each message is one sentence that says what was found, what was wanted and what to do.
"""

from __future__ import annotations


class EdgePromptError(Exception):
    """Root of every error that edge-prompt raises on purpose.

    Args:
        found: What there was, with the name of the file or argument it was found in.
        wanted: What would have been accepted.
        remedy: What to do about it, as an imperative.
    """

    def __init__(self, *, found: str, wanted: str, remedy: str) -> None:
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
        super().__init__(f"{found}; wanted {wanted}; {remedy}")

    def __str__(self) -> str:
        """The message as it is: KeyError would show its repr."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the three parts when an error crosses a process boundary."""
        return _rebuild, (type(self), self.found, self.wanted, self.remedy)


def _rebuild(cls: type[EdgePromptError], found: str, wanted: str, remedy: str) -> EdgePromptError:
    return cls(found=found, wanted=wanted, remedy=remedy)


class MissingFileError(EdgePromptError, FileNotFoundError):
    """A file or folder that was named is not there."""


class ReadError(EdgePromptError, OSError):
    """A file is there and cannot be read."""


class UnsafePathError(EdgePromptError, ValueError):
    """A path inside a manifest or card would leave its folder, or is no plain relative path."""


class WriteError(EdgePromptError, OSError):
    """A file could not be written; what was there before is still there."""


class ArrayFileError(EdgePromptError, ValueError):
    """An `.npy` or `.npz` file is malformed, truncated, or holds what a prompt or head may not hold."""


class PromptShapeError(EdgePromptError, ValueError):
    """A prompt's shape does not fit its kind or the bundle."""


class PromptKindError(EdgePromptError, ValueError):
    """The kind of a prompt is unknown, ambiguous, or not one that the bundle takes."""


class HeadError(EdgePromptError, ValueError):
    """A head is missing, or does not fit the features or labels it belongs to."""


class CardError(EdgePromptError, ValueError):
    """A card is malformed, or contradicts the array beside it."""


class ManifestError(EdgePromptError, ValueError):
    """A manifest is malformed, from a newer format, or names a file that is missing or altered."""


class FingerprintError(EdgePromptError, ValueError):
    """A prompt was tuned on other weights than the bundle's."""


class TrustError(EdgePromptError, ValueError):
    """A bundle or prompt is not signed by whom it should be, or is not what was signed."""


class UnknownTaskError(EdgePromptError, KeyError):
    """No prompt is loaded under that name."""


class UnknownEngineError(EdgePromptError, ValueError):
    """No engine of that name exists, or the bundle holds no graph for it."""


class MissingExtraError(EdgePromptError, ImportError):
    """A package is needed that an extra brings."""


class InputError(EdgePromptError, ValueError):
    """A request cannot be answered as it was made."""


class QueueFullError(EdgePromptError, RuntimeError):
    """As many requests wait as may; one more was refused."""


class RequestTimeoutError(EdgePromptError, TimeoutError):
    """A request waited longer than it was given, and was dropped before it ran."""


class ClosedError(EdgePromptError, RuntimeError):
    """What was asked has been closed."""


class ChatTemplateError(EdgePromptError, ValueError):
    """A chat template is malformed, refuses the messages, or tries what no template needs."""


class LogitsError(EdgePromptError, ArithmeticError):
    """A network gave no numbers that a token can be chosen by."""


class UnsupportedArchitectureError(EdgePromptError, ValueError):
    """The backbone cannot take a prompt of that kind."""


class BackboneError(EdgePromptError, ValueError):
    """A backbone cannot be loaded, or lacks the weights that its task needs."""


class ParityError(EdgePromptError, ArithmeticError):
    """An exported graph and the network it came from give different numbers."""


class TrainingDataError(EdgePromptError, ValueError):
    """A training file is malformed, or cannot train a prompt."""


class AdapterError(EdgePromptError, ValueError):
    """A PEFT adapter is malformed, is no prompt, or is not for this backbone."""


class ResultsError(EdgePromptError, ValueError):
    """A file is none of a benchmark's results, or of another version."""
