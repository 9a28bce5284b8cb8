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
from edge_prompt_runtime.engines.options import PRECISIONS
from edge_prompt_runtime.generation.results import Generation
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.signing.trust import Trust
from edge_prompt_runtime.tasks.registry import TaskName

STANDARD_INPUT = "-"


@click.command("generate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("text")
@click.option(
    "--prompt", type=click.Path(path_type=Path), help="Prompt of the task (.npy).  [default: none, the base model]"
)
@click.option("--kind", help="Kind of the prompt, if it has no card and its shape is ambiguous.")
@click.option("--chat", is_flag=True, help="Send TEXT as a user message in the model's chat template.")
@click.option("--system", help="With --chat: system message.")
@click.option(
    "--max-new-tokens", type=int, help="Maximum number of tokens to generate.  [default: the model's own, or 256]"
)
@click.option("--temperature", type=float, help="Sampling temperature; 0 is greedy.  [default: the model's own, or 0]")
@click.option("--top-k", type=int, help="Sample from the K most likely tokens.")
@click.option("--top-p", type=float, help="Sample from the most likely tokens whose total probability is P.")
@click.option("--min-p", type=float, help="Sample from tokens at least P times as likely as the most likely one.")
@click.option("--repetition-penalty", type=float, help="Values above 1 make tokens that already occurred less likely.")
@click.option("--seed", type=int, help="Random seed, for reproducible sampling.")
@click.option("--stop", multiple=True, help="Text to stop before; may be repeated.")
@click.option("--top-logprobs", type=int, help="With --json: include log-probabilities of the N most likely tokens.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Engine to use.  [default: the first one installed]")
@click.option("--threads", type=click.IntRange(1), help="Number of threads.  [default: chosen by the engine]")
@cores_option
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="f32", show_default=True, help="Precision of the computation."
)
@click.option(
    "--model-cache",
    type=click.Path(path_type=Path),
    help="Folder in which the engine caches the optimised graph, so that it opens faster next time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead of streaming text.")
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
    """Generate text that continues TEXT, with a prompt. If TEXT is -, it is read from standard input.

    Settings that are not given are taken from the model's generation_config.json.
    """
    if system is not None and not chat:
        raise click.UsageError("--system requires --chat")
    if settings["top_logprobs"] is not None and not as_json:
        raise click.UsageError("--top-logprobs requires --json")
    request = _request(_standard_input() if text == STANDARD_INPUT else text, system, chat=chat)
    runtime = Runtime(bundle, engine, threads, precision, model_cache=model_cache, trust=trust, cores=cores)
    task: TaskName = None
    if prompt is not None:
        task = prompt.stem
        runtime.load(task, prompt, kind)
    asked = {name: value for name, value in settings.items() if value not in (None, ())}
    if as_json:
        answer = runtime.generate(request, task, **asked)
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
            found=f"standard input is not valid UTF-8 ({error.reason})",
            wanted="text in UTF-8",
            remedy="convert the input to UTF-8",
        ) from error


def _shown(answer: Generation) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in asdict(answer).items() if value is not None}
