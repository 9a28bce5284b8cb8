"""The settings of tuning and their defaults."""

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
"""AdamW's learning rate for a prompt, by modality and kind; `benchmarks/README.md` describes how they were chosen."""

VIRTUAL_TOKENS = {
    "text": {"soft": 16, "prefix": 64},
    "language": {"soft": 16, "prefix": 16},
    "image": {"soft": 16, "prefix": 16, "deep": 16, "pixel": 0},
}
"""Default length of a prompt, by modality and kind. The tokens of a soft prompt take positions from the text; those of
a prefix are only attended to."""

BATCH_SIZES = {"text": 32, "language": 8, "image": 32}
"""Default batch size of a forward pass, by modality; language models have many layers and long rows."""

HEAD_DEFAULTS = {"text": "linear", "image": "linear"}
"""Default head, by modality; a language model has only its own head."""

INITS = {"text": "training-text", "language": "training-text", "image": "training-image"}
"""Default initialisation of a prompt, by modality."""

_OF_IMAGES, _OF_CHATS = ("augment", "pixel_form"), ("chat", "system")

MEANINGLESS = {
    "text": (*_OF_IMAGES, *_OF_CHATS),
    "language": (*_OF_IMAGES, "head", "head_learning_rate", "max_tokens"),
    "image": ("init_text", "template", "max_tokens", *_OF_CHATS),
}
"""Settings that do not apply to a modality."""

KINDS = ("soft", "prefix", "deep", "pixel")
HEADS = ("linear", "own")
DTYPES = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True)
class TuneSettings:
    """The settings of tuning; all of them are recorded in the prompt's card.

    Attributes:
        kind: `soft` or `prefix`; for images also `deep` and `pixel`.
        virtual_tokens: Number of virtual tokens; None uses the kind's default of `VIRTUAL_TOKENS`.
        head: `linear` trains a linear head for this task, `own` uses the network's own head; None means `linear`.
            Language models always use their own head.
        init: Initialisation of the prompt: for text `training-text`, `vocabulary`, or `text` with `init_text`; for
            images `training-image` or `random`. None uses the first of these.
        init_text: The text for `init="text"`.
        learning_rate: Learning rate of the prompt; None uses the kind's default of `LEARNING_RATES`.
        head_learning_rate: Learning rate of the head.
        epochs: Number of passes over the training examples.
        batch_size: Batch size of one forward pass; None uses the modality's default of `BATCH_SIZES`.
        accumulate: Forward passes per optimiser step (gradient accumulation).
        schedule: Learning-rate schedule: `cosine`, `one-cycle` or `constant`.
        patience: Epochs without improvement on validation after which tuning stops; None never stops early.
        max_tokens: Maximum number of tokens per text, special tokens included; longer texts are truncated. None uses
            the backbone's maximum.
        template: The template that every text is put into, with `{text}` where the text goes.
        chat: For language models: whether to put each text into the model's chat template, as the only user message.
            The rendered template is then stored in the card.
        system: The system message for `chat`; None leaves it to the chat template.
        augment: Augmentation of the training images: `none`, `move` or `move-and-mirror`.
        pixel_form: Region of the image that a pixel prompt covers: `full`, `frame` or `patch`.
        dropout: Whether to apply the network's own dropout during tuning.
        precision: Precision of matrix products: `fp32`, or `bf16`, which is faster on processors that support it.
        dtype: Data type of the prompt file: `float32` or `float16`.
        seed: Random seed.
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
        """These settings with the defaults of the modality and the kind filled in.

        Raises:
            InputError: A setting was changed that does not apply; settings are never silently ignored.
        """
        asked = [name for name in MEANINGLESS[modality] if getattr(self, name) != getattr(TuneSettings(), name)]
        if modality == "image" and self.kind == "pixel" and self.virtual_tokens:
            asked.append("virtual_tokens")
        if asked:
            raise InputError(
                found=f"{', '.join(asked)} for a {self.kind} prompt of {modality} examples",
                wanted="only settings that apply there",
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
