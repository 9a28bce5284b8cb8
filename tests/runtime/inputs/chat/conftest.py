"""Chat templates in the style of the common families, written for these tests."""

from __future__ import annotations

CHATML = """\
{% for message in messages %}
    {% if loop.first and messages[0]['role'] != 'system' %}
        {{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
    {% endif %}
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}
    {{ '<|im_start|>assistant\n' }}
{% endif %}
"""

LLAMA_3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message is taken out. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {{- raise_exception('System role not supported') }}
{%- endif %}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

REASONING = """\
{%- macro shown(text, marker='#') -%}
{{ marker ~ ' ' ~ text }}
{%- endmacro -%}
{%- set ns = namespace(last_user=-1, seen=[], count=0) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last_user == -1 and message.role == "user" %}{% set ns.last_user = index %}{% break %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- set ns.seen = ns.seen + [message.role] %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ shown(content) }}{% endgeneration %}
    {%- else %}
        {{- shown(content, marker='>') }}{{ '\n' if not loop.last }}
    {%- endif %}
    {%- set last = (loop.previtem or {}).role|default('none') %}
    {{- '[%s of %d, %s, %s]' % (loop.index, loop.length, last, ns.seen[-3:]|join('+')) }}
{%- endfor %}
{%- macro framed(text) %}[{{ caller(text) }}]{% endmacro %}
{%- call(word) framed('call') %}{{ word }}{% endcall %}
{{ '{} {:>5}'.format('count', ns.count) }} {{ ns.last_user }} {{ enable_thinking|default(true) }}
{{ {'b': 1, 'a': [1.5, None, '<é>']}|tojson }} {{ dict(a=1)|items|list }} {{ bos_token|upper|center(12) }}
{% for key, value in {'x': 1, 'y': 2}.items() recursive %}{{ key }}={{ value }};{% else %}none{% endfor %}
{% for a, b in [('p', 2), ('q', 3)] if b > 2 %}{{ a * b }}{% endfor %} {{ range(3)|list }} {{ missing }}
{% filter upper %}done {% set x %}inner{% endset %}{{ x }}{% endfilter %}{{ messages|map(attribute='role')|join(', ') }}
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
"""

TEMPLATES = {
    "chatml": CHATML,
    "llama-3": LLAMA_3,
    "zephyr": ZEPHYR,
    "gemma": GEMMA,
    "reasoning": REASONING,
}

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
