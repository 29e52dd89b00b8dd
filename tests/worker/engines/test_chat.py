"""A checkpoint's chat template renders what transformers makes of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from infra.demo_engines import DEMO_MODEL_DIR
from scheduler.core.branch_options import PromptFormat
from tests.worker.engines.branches import branch
from worker.engines.chat import ChatTemplate, render
from worker.engines.torch.text import TokenizerText

CHATML = """
{%- if messages[0]["role"] == "system" -%}
    {{- bos_token + "SYS " + messages[0]["content"] + "\n" }}
    {%- set messages = messages[1:] %}
{%- else -%}
    {{- bos_token }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ["user", "assistant"] %}{% continue %}{% endif %}
    {{- message.role | upper + ": " + message.content | trim + eos_token + "\n" }}
    {%- if loop.last %}{{- {"a": "<b>"} | tojson }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "ASSISTANT:" }}
{%- endif %}
"""
PROMPT = "  What is 2 + 3? "


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The demo model's tokenizer with a chat template."""
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(DEMO_MODEL_DIR / "target" / name, tmp_path)
    set_template(tmp_path, CHATML)
    return tmp_path


def set_template(folder: Path, template: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_it_renders_and_encodes_as_transformers_does(
    checkpoint: Path, system_prompt: str | None
) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    oracle: Any = AutoTokenizer.from_pretrained(checkpoint)
    expected = oracle.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    request = branch("a", PROMPT, system_prompt=system_prompt, partial="2 + 3 = ")
    rendered = render(request, ChatTemplate.read(checkpoint))
    assert rendered.text == expected + "2 + 3 = "
    ids = TokenizerText(checkpoint).encode_prompt(request)
    assert ids == oracle(rendered.text, add_special_tokens=False)["input_ids"]


def test_the_turns_of_a_chat_are_rendered_one_by_one(checkpoint: Path) -> None:
    set_template(checkpoint, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    turns = (("user", "2 + 3?"), ("assistant", "5."), ("user", "And 4?"))
    request = branch("a", "joined", turns=turns)
    template = ChatTemplate.read(checkpoint)
    expected = "<user>2 + 3?<assistant>5.<user>And 4?"
    assert render(request, template).text == expected
    led = replace(request, system_prompt="Be brief.")
    assert render(led, template).text == "<system>Be brief." + expected
    assert render(request, None).text == "joined"


def test_a_template_in_its_own_file_and_one_of_several_are_found(checkpoint: Path) -> None:
    tools, default = {"name": "tools", "template": "T"}, {"name": "default", "template": "D"}
    set_template(checkpoint, [tools, default])
    template = ChatTemplate.read(checkpoint)
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == "D"
    (checkpoint / "chat_template.jinja").write_text("own: {{ messages[0].content }}")
    template = ChatTemplate.read(checkpoint)
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == "own: x"


def test_plain_prompts_stay_as_they_are(checkpoint: Path) -> None:
    template = ChatTemplate.read(checkpoint)
    plain = branch("a", PROMPT, prompt_format=PromptFormat.PLAIN)
    assert render(plain, template).text == PROMPT
    assert render(branch("a", PROMPT), None).text == PROMPT
    assert ChatTemplate.read(DEMO_MODEL_DIR / "target") is None


def test_what_a_model_cannot_be_asked_says_what_to_change(checkpoint: Path) -> None:
    template = ChatTemplate.read(checkpoint)
    with pytest.raises(ValueError, match="no chat template"):
        render(branch("a", PROMPT, prompt_format=PromptFormat.CHAT), None)
    with pytest.raises(ValueError, match="system prompt needs"):
        render(branch("a", PROMPT, system_prompt="Be brief."), None)
    refusing = ChatTemplate("{{ raise_exception('System role not supported') }}", {})
    with pytest.raises(ValueError, match="System role not supported"):
        render(branch("a", PROMPT, system_prompt="Be brief."), refusing)
    with pytest.raises(ValueError, match="cannot be read"):
        ChatTemplate("{% if %}", {})
    assert template is not None


def test_a_template_runs_in_a_sandbox() -> None:
    hostile = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", {})
    with pytest.raises(ValueError, match="unsafe"):
        hostile.render([{"role": "user", "content": "x"}])
