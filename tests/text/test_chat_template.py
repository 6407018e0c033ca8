"""Chat templates against texts written by hand, and hostile ones that must end as a ValueError."""

import json
from pathlib import Path

import pytest

from r1jax.text import chat_template
from r1jax.text.chat_template import ChatTemplate, read_chat_template

CHATML = """{% for message in messages %}
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '\\n<|im_start|>assistant\\n' }}
{%- endif %}"""

LLAMA = """{{- bos_token }}
{%- if not date is defined %}{% set date = strftime_now("%d %b %Y") %}{% endif %}
{%- for message in messages %}
    {%- if message.role not in ("system", "user", "assistant") %}
        {{- raise_exception("no role " + message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'system' %}{{- 'Today: ' + date + '\\n\\n' }}{% endif %}
    {{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN = """{%- if tools %}
    {{- tools | tojson }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "system" and loop.first %}{% continue %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == "assistant" %}
        {%- generation %}{{- message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}{% endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}
"""

USER = [{"role": "user", "content": "1 < 2?"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    *USER,
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."},
    {"role": "user", "content": " é & \\boxed{}"},
]


def render(template, messages=USER, add_generation_prompt=True, **variables):
    return ChatTemplate(template, variables, "models/tiny").render(messages, add_generation_prompt)


def test_chatml():
    assert render(CHATML) == "    <|im_start|>user\n1 < 2?<|im_end|>\n\n<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == "    <|im_start|>user\n1 < 2?<|im_end|>\n"


def test_llama():
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert render(LLAMA, TALK, bos_token="<|begin_of_text|>") == (
        "<|begin_of_text|>"
        f"{header.format('system')}Today: 20 Jan 2025\n\nBe brief.<|eot_id|>"
        f"{header.format('user')}1 < 2?<|eot_id|>"
        f"{header.format('assistant')}<think>\nhm\n</think>\n\nYes.<|eot_id|>"
        f"{header.format('user')}é & \\boxed{{}}<|eot_id|>"
        f"{header.format('assistant')}"
    )


def test_qwen():
    assert render(QWEN, TALK) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 < 2?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\n é & \\boxed{}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )
    assert render(QWEN).startswith("<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\n")


def test_json_is_not_escaped_for_html():
    assert render("{{ messages | tojson }}") == '[{"role": "user", "content": "1 < 2?"}]'
    assert render("{{ {'é': '<b>'} | tojson(indent=1) }}") == '{\n "é": "<b>"\n}'


def test_missing_variable_is_empty_and_its_attributes_are_an_error():
    assert render("[{{ bos_token }}]") == "[]"
    with pytest.raises(ValueError, match=r"models/tiny fails: UndefinedError: 'persona' is undefined; fix the templ"):
        render("{{ persona.name }}")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles\n must alternate') }}", "it refuses the messages: roles must alternate;"),
        ("{{ raise_exception('x' * 1000000) }}", "it refuses the messages: x{200,300};"),
        ("{% if %}", "TemplateSyntaxError: "),
        ('{% include "/etc/passwd" %}', "it asks for the file '/etc/passwd', and a chat template may not read files"),
        ('{% include "/etc/passwd" ignore missing %}', "it asks for the file"),
        ('{% import "a.jinja" as a %}', "it asks for the file 'a.jinja'"),
        ('{% extends "b.jinja" %}', "it asks for the file 'b.jinja'"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: access to attribute '__class__'"),
        ("{{ cycler.__init__.__globals__ }}", "SecurityError: "),
        ("{{ ''['__class__']['__mro__'] }}", "SecurityError: "),
        ("{{ (''|attr('__class__')).x }}", "SecurityError: "),
        ("{{ '{0.__class__.__mro__}'.format('') }}", "SecurityError: "),
        ("{{ raise_exception.__globals__.json }}", "SecurityError: "),
        ("{{ strftime_now.__self__.x }}", "SecurityError: "),
        ("{{ messages.append(1) }}", "SecurityError: "),
        ("{{ range(10**9) }}", "OverflowError: "),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError: "),
        ('{{ "a" * 10**12 }}', "needed more than 512 MB of memory"),
    ],
)
def test_hostile_and_broken_templates_are_one_line_errors(template, reason):
    with pytest.raises(ValueError, match=rf"^the chat template of models/tiny fails: .*{reason}") as caught:
        render(template)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n - 1) if n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
        "{{ 10 ** (10 ** 10) }}",
    ],
)
def test_endless_template_is_stopped(monkeypatch, template):
    monkeypatch.setattr(chat_template, "RENDER_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"models/tiny fails: .*took longer than 0\.5 s; fix the template or set"):
        render(template)


def test_one_process_renders_again_after_a_failure():
    template = ChatTemplate("{{ raise_exception('no') if messages[0].content == 'bad' }}ok", {})
    with pytest.raises(ValueError, match="the chat template of the tokenizer fails: it refuses the messages: no"):
        template.render([{"role": "user", "content": "bad"}])
    assert template.render(USER) == "ok"


def test_read_chat_template_in_order(tmp_path):
    assert read_chat_template(tmp_path) is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "C"}))
    assert read_chat_template(tmp_path) == "C"
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert read_chat_template(tmp_path) == "C"
    templates = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert read_chat_template(tmp_path) == "D"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "B"}))
    assert read_chat_template(tmp_path) == "B"
    (tmp_path / "chat_template.jinja").write_text("A é", encoding="utf-8")
    assert read_chat_template(tmp_path) == "A é"


def test_read_chat_template_errors(tmp_path):
    file: Path = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"chat_template": [{"name": "rag", "template": "R"}]}))
    with pytest.raises(ValueError, match=r"has the chat templates rag; rename the one to use to default"):
        read_chat_template(tmp_path)
    file.write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is not valid JSON"):
        read_chat_template(tmp_path)
