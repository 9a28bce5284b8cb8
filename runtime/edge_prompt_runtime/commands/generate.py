"""`edge-prompt generate BUNDLE TEXT [--prompt TASK.npy] …`."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.commands.engine_options import cores_option
from edge_prompt_runtime.commands.trust_options import trust_options
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.engines.settings import PRECISIONS
from edge_prompt_runtime.generation.results import Generation
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.signing.trust import Trust
from edge_prompt_runtime.tasks.registry import TaskName

STANDARD_INPUT = "-"


@click.command("generate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("text")
@click.option("--prompt", type=click.Path(path_type=Path), help="The task's .npy file.  [default: the base model]")
@click.option("--kind", help="The kind of a bare .npy file whose shape leaves it open.")
@click.option("--chat", is_flag=True, help="TEXT is what a user says, in the model's own chat template.")
@click.option("--system", help="With --chat: what the model is told before.")
@click.option("--max-new-tokens", type=int, help="[default: the model's own, or 256]")
@click.option("--temperature", type=float, help="0 takes the most likely token.  [default: the model's own, or 0]")
@click.option("--top-k", type=int, help="Draw from so many of the most likely tokens.")
@click.option("--top-p", type=float, help="Draw from the most likely tokens that have this probability together.")
@click.option("--min-p", type=float, help="Draw from tokens of at least this share of the greatest probability.")
@click.option("--repetition-penalty", type=float, help="Above 1, what was said already becomes less likely.")
@click.option("--seed", type=int, help="Makes drawing repeatable.")
@click.option("--stop", multiple=True, help="A text to end before; may be given again.")
@click.option("--top-logprobs", type=int, help="With --json: log-probabilities, and those of so many likely tokens.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="[default: the first that is installed]")
@click.option("--threads", type=click.IntRange(1), help="[default: the engine's choice]")
@cores_option
@click.option("--precision", type=click.Choice(PRECISIONS), default="f32", show_default=True)
@click.option(
    "--model-cache",
    type=click.Path(path_type=Path),
    help="A folder where the engine keeps its optimised form of the graph, to open faster the next time.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end instead of text as it comes.")
@trust_options
def command(
    bundle: Path,
    text: str,
    prompt: Path | None,
    kind: str | None,
    system: str | None,
    engine: str | None,
    threads: int | None,
    cores: list[int] | None,
    precision: str,
    model_cache: Path | None,
    *,
    trust: Trust | None,
    chat: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Go on from TEXT by a language model, under a prompt; - reads it from standard input.

    What is not asked for here is as the model's own generation_config.json has it.
    """
    if system is not None and not chat:
        raise click.UsageError("--system is for a chat: pass --chat too")
    if settings["top_logprobs"] is not None and not as_json:
        raise click.UsageError("--top-logprobs are shown in JSON: pass --json too")
    request = _request(_standard_input() if text == STANDARD_INPUT else text, system, chat=chat)
    runtime = Runtime(bundle, engine, threads, precision, model_cache=model_cache, trust=trust, cores=cores)
    task: TaskName = None
    if prompt is not None:
        task = prompt.stem
        runtime.load(task, prompt, kind)
    asked = {name: value for name, value in settings.items() if value not in (None, ())}
    if as_json:
        answer = runtime.generate(request, task, **asked)
        assert isinstance(answer, Generation)  # noqa: S101 - one request, one answer
        click.echo(json.dumps(_shown(answer), ensure_ascii=False))
        return
    with closing(runtime.generate(request, task, stream=True, **asked)) as pieces:
        for piece in pieces:
            click.echo(piece.text, nl=False)
    click.echo()


def _request(text: str, system: str | None, *, chat: bool) -> str | list[dict[str, str]]:
    if not chat:
        return text
    told = [] if system is None else [{"role": "system", "content": system}]
    return [*told, {"role": "user", "content": text}]


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            found=f"bytes on standard input that are no UTF-8 ({error.reason})", wanted="a text", remedy="convert it"
        ) from error


def _shown(answer: Generation) -> dict[str, Any]:
    """Every field that was asked for."""
    return {name: value for name, value in asdict(answer).items() if value is not None}
