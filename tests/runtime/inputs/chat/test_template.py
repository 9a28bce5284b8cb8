from __future__ import annotations

import builtins
import re
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from edge_prompt.base.errors import ChatTemplateError, InputError, MissingExtraError
from edge_prompt_runtime.inputs.chat import ChatTemplate
from edge_prompt_runtime.inputs.chat.template import MAX_SOURCE_CHARACTERS
from tests.runtime.inputs.chat.conftest import CHATML, GEMMA, LLAMA_3, SPECIAL, TEMPLATES

CHATS: dict[str, list[dict[str, Any]]] = {
    "one": [{"role": "user", "content": "Hello?"}],
    "turns": [
        {"role": "user", "content": "  What is 2 + 2?\n"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4, «vier» 😀"},
        {"role": "user", "content": "Sure? {{ bos_token }} {% raw %}"},
    ],
    "system": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a\n\nb"}],
}


def by_transformers(template: str, messages: list[dict[str, Any]], **options: Any) -> str:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL)
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    assert isinstance(text, str)
    return text


def outcome(render: Any, *arguments: Any, **options: Any) -> str:
    """The text, or a note that the template refused."""
    try:
        return str(render(*arguments, **options))
    except Exception as error:  # noqa: BLE001 - whatever a template may raise
        return f"refused: {'alternate' in str(error) or 'not supported' in str(error)}"


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_gives_what_transformers_gives(template: str, prompt: bool, chat: str) -> None:
    ours = outcome(ChatTemplate(TEMPLATES[template], SPECIAL).render, CHATS[chat], add_generation_prompt=prompt)
    theirs = outcome(by_transformers, TEMPLATES[template], CHATS[chat], add_generation_prompt=prompt)
    assert ours == theirs
    assert not ours.startswith("refused") or (template, chat) == ("gemma", "system")


def test_tools_and_other_variables_are_the_templates() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, "é"]}}}]},
        {"role": "user", "content": "y", "name": None},
    ]
    options: dict[str, Any] = {"tools": tools, "date_string": "1 May 2025"}
    ours = ChatTemplate(LLAMA_3, SPECIAL).render(messages, **options)
    assert ours == by_transformers(LLAMA_3, messages, add_generation_prompt=True, **options)
    assert '"parameters": {"a": [1, "é"]}' in ours


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text()), min_size=1, max_size=5))
def test_any_messages_give_what_transformers_gives(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    for template in (TEMPLATES["chatml"], TEMPLATES["zephyr"], TEMPLATES["reasoning"]):
        ours = ChatTemplate(template, SPECIAL).render(messages)
        assert ours == by_transformers(template, messages, add_generation_prompt=True)


def test_the_day_is_today() -> None:
    text = ChatTemplate("{{ strftime_now('%Y') }}", {}).render(CHATS["one"])
    assert int(text) in {datetime.now(UTC).year + shift for shift in (-1, 0, 1)}


def test_errors_raised_by_the_template_are_reported() -> None:
    with pytest.raises(ChatTemplateError, match="TemplateError: System role not supported") as caught:
        ChatTemplate(GEMMA, SPECIAL).render(CHATS["system"])
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in messages %}",
        "{{ nothing.there }}",
        "{{ 1 / 0 }}",
        "{{ messages[5].content.more }}",
        "{% include 'other' %}",
        "{% extends 'other' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ x | unknown }}",
        "{{ messages.append }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% for x in [1] %}" * 200 + "{% endfor %}" * 200,
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ ('{0.__cla' ~ 'ss__.__mro__}').format(messages) }}",
        "{{ messages|attr('__class__') }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ dict.mro() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum(5) }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused_in_one_sentence(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="the chat template fails") as caught:
        ChatTemplate(source, SPECIAL).render(CHATS["one"])
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


DOUBLED = "{% set ns = namespace(s='aaaaaaaaaa', l=[1]) %}{% for i in range(60) %}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(999) %}" + "x" * 1000 + "{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for x in [range(99)] * 9 recursive %}{{ loop([range(99), range(99)]) if loop.depth < 60 }}{% endfor %}",
        "{% for a in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
        "{% for a in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ [1] * 10**10 }}",
        "{{ 10**(10**10) }}",
        "{% set ns = namespace(n=10**1000) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        DOUBLED + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        DOUBLED + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        DOUBLED + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
        DOUBLED + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
        DOUBLED + "{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}",
        DOUBLED + "{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        DOUBLED + "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}",
        DOUBLED + "{% set ns.s = [ns.s, ns.s]|join(ns.s) %}{% endfor %}",
        DOUBLED + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
        DOUBLED + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|string|length }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson|length }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|pprint|length }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ('' ~ ns.l)|length }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ('%s' % ns.l)|length }}",
        DOUBLED + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns }}",
        DOUBLED + "{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l.items() }}",
        "{% set ns = namespace() %}{% set ns.self = [ns, ns] %}{{ ns.self|tojson }}",
        "{{ 'a'|center(10**10) }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ 'a'.zfill(10**10) }}",
        "{{ '\t'.expandtabs(10**10) }}",
        "{{ 'a\n'|indent(10**10, true) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10**10, 1) }}",
        "{{ '%10000000000d'|format(1) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ '{:>{w}}'.format(1, w=10**10) }}",
        "{{ strftime_now('%10000000000d') }}",
        "{{ [1]|batch(10**10, 0)|list }}",
        "{{ [1]|slice(10**10)|list }}",
        "{{ [1]|tojson(indent=10**10) }}",
        "{{ ('a' * 10**6)|wordwrap(1, true, 'b' * 10**6) }}",
        "{{ ('a' * 10**7).translate({97: 'b' * 10**6}) }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(9**5) %}{% set ns.l = [ns.l, ('a' * 999)[1:]] %}{% endfor %}",
        "{% set s = 'a' * 10**7 %}{% for i in range(9**5) %}{% set x = 'b' in s %}{% endfor %}",
        "{{ ('a,' * 10**7).split(',')|length }}",
    ],
)
def test_a_template_that_takes_too_long_or_makes_too_much_is_stopped(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="the chat template fails"):
        ChatTemplate(source, SPECIAL).render(CHATS["one"])


def test_a_long_chat_is_within_bounds() -> None:
    messages = [{"role": "user" if turn % 2 == 0 else "assistant", "content": "word " * 200} for turn in range(1000)]
    for template in TEMPLATES.values():
        text = ChatTemplate(template, SPECIAL).render(messages)
        assert text == by_transformers(template, messages, add_generation_prompt=True)


def test_a_template_of_megabytes_is_refused() -> None:
    with pytest.raises(ChatTemplateError, match="the chat template has"):
        ChatTemplate("x" * (MAX_SOURCE_CHARACTERS + 1), {})


def test_one_rendering_that_is_stopped_leaves_the_next_alone() -> None:
    template = ChatTemplate("{% for i in range(n) %}{% for j in range(n) %}x{% endfor %}{% endfor %}", {})
    with pytest.raises(ChatTemplateError, match="steps"):
        template.render(CHATS["one"], n=2000)
    assert template.render(CHATS["one"], n=2) == "xxxx"


def test_threads_render_one_template() -> None:
    template = ChatTemplate(CHATML, SPECIAL)
    wanted = {name: by_transformers(CHATML, chat, add_generation_prompt=True) for name, chat in CHATS.items()}
    wrong: list[str] = []

    def work(name: str) -> None:
        wrong.extend(name for _ in range(50) if template.render(CHATS[name]) != wanted[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in CHATS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_variables_are_plain_values() -> None:
    template = ChatTemplate("{{ given }}", {})
    assert template.render(CHATS["one"], given={"a": (1, 2.5, None, True)}) == "{'a': (1, 2.5, None, True)}"
    with pytest.raises(InputError, match="given is of type module"):
        template.render(CHATS["one"], given=sys)


def test_a_missing_jinja_is_reported_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "jinja2":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=re.escape("Run: pip install 'edge-prompt[onnxruntime]'")):
        ChatTemplate(CHATML, {}).render(CHATS["one"])


def test_a_jinja_with_ways_out_of_its_sandbox_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinja2.__version__", "3.1.5")
    with pytest.raises(MissingExtraError, match=r"but 3\.1\.5 is installed; expected jinja2 3\.1\.6 or newer"):
        ChatTemplate(CHATML, {}).render(CHATS["one"])
