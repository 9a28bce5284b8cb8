from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from edge_prompt.formats.bundle import TOKENIZER_NAME
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.detokenizer import REPLACEMENT, StreamDecoder
from edge_prompt_runtime.generation.results import Generation
from examples.demo_lm import QUESTION, speed_of
from examples.language_scores import PROMPTS, right_share, smollm2_bundle
from examples.real_language import LANGUAGE_TASKS, TEMPLATE, language_task

LEAST_RIGHT = {"topics": 0.5, "bookings": 0.6, "fechas": 0.6}
ROWS = 20


@pytest.mark.parametrize("name", LANGUAGE_TASKS)
def test_every_prompt_is_small_and_has_a_card_with_template_and_figures(name: str) -> None:
    prompt = read_prompt(PROMPTS / f"{name}.npy")
    assert prompt.array.nbytes < 100_000
    assert prompt.head is None
    assert prompt.card is not None
    assert prompt.card.template == TEMPLATE
    held = prompt.card.provenance["held_out"]
    assert held["right"] > held["right_without_prompt_but_told"]


def test_there_is_a_prompt_for_every_task() -> None:
    assert {path.stem for path in PROMPTS.glob("*.npy")} == set(LANGUAGE_TASKS)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"breakfast":true,"nights":2,"name":"A B","city":"C"}', True),
        ('{"name": "A B", "city": "C", "nights": 3, "breakfast": true}', False),
        ('Here you are: {"name": "A B", "city": "C", "nights": 2, "breakfast": true}', False),
        ("{", False),
    ],
)
def test_json_is_compared_by_values(said: str, right: bool) -> None:
    answer = '{"name": "A B", "city": "C", "nights": 2, "breakfast": true}'
    assert language_task("bookings").is_right(said, answer) is right


@pytest.mark.real_weights
@pytest.mark.parametrize("name", LANGUAGE_TASKS)
def test_held_out_rows_are_not_in_the_training_data(name: str) -> None:
    task = language_task(name)
    assert not {question.text for question in task.train} & {question.text for question in task.held}


@pytest.mark.real_weights
def test_one_network_answers_all_tasks(engine: str) -> None:
    runtime = Runtime(smollm2_bundle(), engine)
    assert set(runtime.load_all(PROMPTS)) == set(LANGUAGE_TASKS)  # refused if they were tuned on another network
    for name, least in LEAST_RIGHT.items():
        task = language_task(name)
        task = task._replace(held=task.held[:: len(task.held) // ROWS][:ROWS])
        assert right_share(runtime, name, task) >= least, name


@pytest.mark.real_weights
def test_one_batch_mixes_all_tasks() -> None:
    runtime = Runtime(smollm2_bundle())
    runtime.load_all(PROMPTS)
    answers = runtime.generate([QUESTION, QUESTION], task=["bookings", "topics"], max_new_tokens=40)
    assert isinstance(answers, list)
    assert json.loads(answers[0].text).keys() == {"name", "city", "nights", "breakfast"}
    alone = [runtime.generate(QUESTION, task=name, max_new_tokens=40) for name in ("bookings", "topics")]
    assert [answer.text for answer in answers] == [one.text for one in alone if isinstance(one, Generation)]


@pytest.mark.real_weights
def test_speed_is_reported() -> None:
    runtime = Runtime(smollm2_bundle())
    speed = speed_of(runtime)
    assert min(speed.first_ms, speed.first_long_ms, speed.tokens_per_second) > 0
    assert runtime.tasks == ()


@pytest.mark.real_weights
def test_streamed_pieces_equal_the_decoding() -> None:
    tokenizer = Tokenizer.from_file(str(smollm2_bundle() / TOKENIZER_NAME))
    texts = [question.text for name in LANGUAGE_TASKS for question in language_task(name).held]
    for text in [*texts, "Grüße, señor 日本語 👩‍👩‍👧\n\n\tend"]:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        pieces = StreamDecoder(tokenizer)
        given = [*(pieces.push(token) for token in tokens), pieces.flush()]
        assert "".join(given) == tokenizer.decode(tokens) == text
        assert not any(piece.endswith(REPLACEMENT) for piece in given)
