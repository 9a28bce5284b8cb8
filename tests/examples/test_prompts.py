from __future__ import annotations

import pytest

from edge_prompt.formats.bundle import Bundle, read_bundle
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_export import export_backbone
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_runtime import Runtime, TruncationWarning
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.tasks.task import base_task
from examples.demo import PROMPTS
from examples.real_data import TEXT_TASKS, minilm, text_task

LEAST_ACCURACY = {"reuters": 0.93, "newsgroups": 0.7, "tweets": 0.9}
TEXTS = 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("minilm") / "bundle"
    export_backbone(minilm(), folder)
    return read_bundle(folder)


def test_there_is_a_prompt_for_every_task() -> None:
    assert {path.stem for path in PROMPTS.glob("*.npy")} == set(TEXT_TASKS)


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_every_prompt_is_small_and_has_a_card_with_labels_and_head(task: str) -> None:
    prompt = read_prompt(PROMPTS / f"{task}.npy")
    assert prompt.array.nbytes < 200_000
    assert prompt.card is not None
    assert prompt.head is not None
    assert prompt.card.labels


@pytest.mark.real_weights
def test_the_prompts_were_tuned_on_this_network(bundle: Bundle) -> None:
    fingerprint = load_backbone(str(minilm())).fingerprint
    assert bundle.manifest.backbone.fingerprint == fingerprint
    for task in TEXT_TASKS:
        card = read_prompt(PROMPTS / f"{task}.npy").card
        assert card is not None
        assert card.fingerprint == fingerprint


@pytest.mark.real_weights
@pytest.mark.filterwarnings("ignore::edge_prompt_runtime.TruncationWarning")
def test_one_network_answers_all_tasks_in_one_batch(bundle: Bundle, engine: str) -> None:
    runtime = Runtime(bundle.folder, engine)
    assert set(runtime.load_all(PROMPTS)) == set(TEXT_TASKS)
    tests = {task: text_task(task).test for task in TEXT_TASKS}
    rows = [(task, example) for task, test in tests.items() for example in test[:: len(test) // TEXTS][:TEXTS]]
    rows.sort(key=lambda row: len(row[1].text))
    right = dict.fromkeys(TEXT_TASKS, 0)
    for start in range(0, len(rows), 15):
        batch = rows[start : start + 15]
        answers = runtime.classify([example.text for _, example in batch], task=[task for task, _ in batch])
        for (task, example), answer in zip(batch, answers, strict=True):
            right[task] += answer.label == example.label
    accuracies = {task: count / TEXTS for task, count in right.items()}
    assert all(accuracies[task] >= LEAST_ACCURACY[task] - 0.1 for task in TEXT_TASKS), accuracies


@pytest.mark.real_weights
def test_a_long_text_is_truncated_as_in_tuning(bundle: Bundle) -> None:
    runtime = Runtime(bundle.folder)
    runtime.load("reuters", PROMPTS / "reuters.npy")
    assert runtime.task("reuters").max_tokens == 64
    with pytest.warns(TruncationWarning, match="64 tokens"):
        runtime.classify("oil prices rose " * 60, task="reuters")


@pytest.mark.real_weights
def test_the_tokens_are_those_of_transformers(bundle: Bundle) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(minilm())
    requests, base = open_requests(bundle), base_task(bundle.manifest)
    for text in [example.text for example in text_task("tweets").test[:40]]:
        request = requests.read(text, base)
        assert request.arrays["input_ids"][0].tolist() == reference(text)["input_ids"]


@pytest.mark.real_weights
def test_the_manifests_parity_is_small(bundle: Bundle) -> None:
    for figures in (bundle.manifest.parity[name] for name in bundle.manifest.graphs):
        assert max(figures["torch"], figures["length_0"], figures["mixed_batch"]) <= 1e-4
        assert min(figures["effect"].values()) > 1e-2
