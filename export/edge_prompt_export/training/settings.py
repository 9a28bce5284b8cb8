"""How a prompt is tuned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.card import TEMPLATE_FIELD

LEARNING_RATES = {
    "text": {"soft": 1e-2, "prefix": 5e-2},
    "language": {"soft": 5e-2, "prefix": 2e-2},
    "image": {"soft": 1e-2, "prefix": 5e-2, "deep": 1e-2, "pixel": 1e-1},
}
"""AdamW's learning rate for a prompt, by modality and kind; how they were chosen is told in `benchmarks/README.md`."""

VIRTUAL_TOKENS = {
    "text": {"soft": 16, "prefix": 64},
    "language": {"soft": 16, "prefix": 16},
    "image": {"soft": 16, "prefix": 16, "deep": 16, "pixel": 0},
}
"""The length of a prompt: a soft prompt's tokens take the room of a text's, a prefix's only attend."""

BATCH_SIZES = {"text": 32, "language": 8, "image": 32}
"""Examples a forward, by modality; language models have many layers and long rows."""

HEAD_DEFAULTS = {"text": "linear", "image": "linear"}
"""The head where nothing else is asked for; a language model has none beside its own."""

INITS = {"text": "training-text", "language": "training-text", "image": "training-image"}
"""Where a prompt starts, by modality, where nothing else is asked for."""

_OF_IMAGES, _OF_CHATS = ("augment", "pixel_form"), ("chat", "system")

MEANINGLESS = {
    "text": (*_OF_IMAGES, *_OF_CHATS),
    "language": (*_OF_IMAGES, "head", "head_learning_rate", "max_tokens"),
    "image": ("init_text", "template", "max_tokens", *_OF_CHATS),
}
"""Settings that say nothing about examples of a modality."""

KINDS = ("soft", "prefix", "deep", "pixel")
HEADS = ("linear", "own")
DTYPES = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True)
class TuneSettings:
    """How a prompt is tuned; every one is recorded in its card.

    Attributes:
        kind: `soft` or `prefix`; for images also `deep` and `pixel`.
        virtual_tokens: How many virtual tokens; None takes the kind's of `VIRTUAL_TOKENS`.
        head: `linear` tunes a head of the task's own, `own` goes through the network's; None takes `linear`. Language
            models go through their own always.
        init: Where the prompt starts: for texts `training-text`, `vocabulary`, or `text` with `init_text`; for images
            `training-image` or `random`. None takes the first.
        init_text: The text for `init="text"`.
        learning_rate: Of the prompt; None takes the kind's of `LEARNING_RATES`.
        head_learning_rate: Of the head.
        epochs: Passes over the training examples.
        batch_size: Examples a forward; None takes the modality's of `BATCH_SIZES`.
        accumulate: Forwards an optimiser step.
        schedule: `cosine`, `one-cycle` or `constant`.
        patience: Epochs without improvement of validation after which tuning ends; None goes on to the end.
        max_tokens: Tokens of a text that are read, special tokens included; None reads all that the backbone takes.
        template: The text put around every text, with `{text}` where that goes.
        chat: Of language models: whether a text goes into the model's own chat template, as the one message of a user;
            the template then stands on the card.
        system: The system message before it; None leaves it to the chat template.
        augment: What happens to images in each epoch: `none`, `move` or `move-and-mirror`.
        pixel_form: Where a pixel prompt is: `full`, `frame` or `patch`.
        dropout: Whether the network's own dropout is on while tuning.
        precision: `fp32` or `bf16` (quicker where the processor has it).
        dtype: Of the file: `float32` or `float16`.
        seed: For the order and what is drawn.
    """

    kind: str = "prefix"
    virtual_tokens: int | None = None
    head: str | None = None
    init: str | None = None
    init_text: str | None = None
    learning_rate: float | None = None
    head_learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int | None = None
    accumulate: int = 1
    schedule: str = "cosine"
    patience: int | None = None
    max_tokens: int | None = None
    template: str = TEMPLATE_FIELD
    chat: bool = False
    system: str | None = None
    augment: str = "none"
    pixel_form: str = "frame"
    dropout: bool = True
    precision: str = "fp32"
    dtype: str = "float16"
    seed: int = 0

    def complete(self, modality: str) -> TuneSettings:
        """The same, with what suits the modality and the kind where nothing else was asked for.

        Raises:
            InputError: Something was asked for that means nothing there: a request is never silently ignored.
        """
        asked = [name for name in MEANINGLESS[modality] if getattr(self, name) != getattr(TuneSettings(), name)]
        if modality == "image" and self.kind == "pixel" and self.virtual_tokens:
            asked.append("virtual_tokens")
        if asked:
            raise InputError(
                found=f"{', '.join(asked)} for a {self.kind} prompt of {modality} examples",
                wanted="settings that mean something there",
                remedy="leave these out",
            )
        return replace(
            self,
            head=self.head or HEAD_DEFAULTS.get(modality),
            batch_size=self.batch_size or BATCH_SIZES[modality],
            init=self.init or INITS[modality],
            virtual_tokens=self.virtual_tokens or VIRTUAL_TOKENS[modality].get(self.kind, 0),
            learning_rate=self.learning_rate or LEARNING_RATES[modality].get(self.kind),
        )
