"""Tokenizers against round trips, hand-made alphabets, and tiny tokenizers that the tests build."""

import json
import re
import subprocess
import sys

import pytest
from byte_tokenizer import CHATML, byte_tokenizer

from r1jax.text.prompt import with_stop
from r1jax.text.sentence_piece import SentencePieceTokenizer
from r1jax.text.tokenizer import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    check_same_tokens,
    load_tokenizer,
)

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
WORDS = ["<pad>", "<s>", "</s>", "<|end|>", "12", "+", "34", "=", "46"]


def write_huggingface(folder, *, vocabulary=None, template=False, config=None, generation=None, truncate=False):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    vocabulary = vocabulary or {word: i for i, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<pad>", "<s>", "</s>", "<|end|>"])
    backend.add_special_tokens([AddedToken("<think>", special=True)])
    backend.add_tokens(["</think>"])
    if template:
        backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    if truncate:
        backend.enable_truncation(2)
        backend.enable_padding(length=8)
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    for name, content in (("tokenizer_config", config), ("generation_config", generation)):
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_import_loads_no_library():
    heavy = ("jax", "numpy", "tokenizers", "sentencepiece", "jinja2")
    code = f"import sys, r1jax.text.tokenizer, r1jax.tasks; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_characters_number_pad_stop_and_symbols_in_order():
    tokenizer = CharacterTokenizer([*TAGS, *"0123456789+="])
    assert (tokenizer.size, tokenizer.stop_ids, tokenizer.bos_id, tokenizer.chat_template) == (18, (1,), None, None)
    assert tokenizer.encode("<think>1+0=</think>") == [2, 7, 16, 6, 17, 3]
    assert tokenizer.encode("") == []
    assert tokenizer.decode([2, 7, 16, 6, 17, 3, 1, 0, 0]) == "<think>1+0=</think>"


def test_characters_take_the_longest_symbol_whatever_the_order():
    tokenizer = CharacterTokenizer(["a", "ab", "abc", "b", "c"])
    assert tokenizer.encode("abcabaca") == [4, 3, 2, 6, 2]


def test_characters_escape_pattern_characters():
    symbols = list(".*+?()[]{}|^$\\\n ")
    tokenizer = CharacterTokenizer(symbols)
    assert tokenizer.encode("".join(symbols)) == list(range(2, tokenizer.size))


def test_unknown_character_is_named_with_its_position():
    with pytest.raises(ValueError, match=r"character 'x' at position 8 is not in the alphabet .*'<think>'.* '1'"):
        CharacterTokenizer([*TAGS, "1"]).encode("<think>1x")


@pytest.mark.parametrize("symbols", [["a", "a"], ["a", ""], []])
def test_alphabet_must_be_distinct_and_not_empty(symbols):
    with pytest.raises(ValueError, match="distinct"):
        CharacterTokenizer(symbols)


def test_huggingface_folder_and_file_agree(tmp_path):
    folder = write_huggingface(tmp_path / "m", config={"eos_token": "</s>", "pad_token": "<pad>"})
    tokenizer = load_tokenizer(folder, ())
    assert (tokenizer.size, tokenizer.stop_ids, tokenizer.bos_id, tokenizer.chat_template) == (11, (2,), None, None)
    assert tokenizer.encode("12 + 34 =") == [4, 5, 6, 7]
    assert tokenizer.encode_batch(["12 + 34 =", "", "46"]) == [[4, 5, 6, 7], [], [8]]
    assert load_tokenizer(folder / "tokenizer.json", ()).encode("12 + 34 =") == [4, 5, 6, 7]


def test_huggingface_never_adds_special_tokens(tmp_path):
    folder = write_huggingface(tmp_path / "m", template=True, config={"eos_token": "</s>", "bos_token": "<s>"})
    tokenizer = load_tokenizer(folder, ())
    assert tokenizer.encode("12") == [4]
    assert tokenizer.bos_id == 1


def test_huggingface_decode_keeps_tags_and_drops_pad_stop_start(tmp_path):
    config = {"eos_token": "</s>", "bos_token": {"content": "<s>"}, "pad_token": "<pad>"}
    tokenizer = load_tokenizer(write_huggingface(tmp_path / "m", config=config), ())
    ids = tokenizer.encode("<think> 46 </think>")
    assert ids == [9, 8, 10]
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == "<think> 46 </think>"


@pytest.mark.parametrize(
    ("config", "generation", "stops"),
    [
        ({"eos_token": "</s>"}, {"eos_token_id": 3}, (2, 3)),
        ({"eos_token": {"content": "</s>"}}, {"eos_token_id": [3, 2]}, (2, 3)),
        (None, {"eos_token_id": [3, 2]}, (3, 2)),
        ({}, {"eos_token_id": 0}, (0,)),
    ],
)
def test_huggingface_collects_all_stops_the_eos_token_first(tmp_path, config, generation, stops):
    folder = write_huggingface(tmp_path / "m", config=config, generation=generation)
    assert load_tokenizer(folder, ()).stop_ids == stops


@pytest.mark.parametrize(
    ("generation", "model", "stops"),
    [
        (None, {"eos_token_id": [3, 1]}, (2, 3, 1)),
        ({"temperature": 0.6, "eos_token_id": None}, {"eos_token_id": 3}, (2, 3)),
        ({"eos_token_id": 3}, {"eos_token_id": 1}, (2, 3)),
        (None, {"eos_token_id": None}, (2,)),
    ],
)
def test_huggingface_stops_of_config_json_only_where_generation_config_has_none(tmp_path, generation, model, stops):
    folder = write_huggingface(tmp_path / "m", config={"eos_token": "</s>"}, generation=generation)
    (folder / "config.json").write_text(json.dumps(model))
    assert load_tokenizer(folder, ()).stop_ids == stops


def test_huggingface_chat_template_with_the_special_tokens_of_both_files(tmp_path):
    """As in transformers, special_tokens_map.json comes before tokenizer_config.json."""
    folder = write_huggingface(tmp_path / "m", config={"eos_token": {"content": "<pad>"}, "unk_token": None})
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}"
    )
    tokenizer = load_tokenizer(folder, ())
    assert tokenizer.stop_ids == (2,)
    assert tokenizer.chat_template is tokenizer.chat_template
    text = tokenizer.chat_template.render([{"role": "user", "content": " 12 "}])
    assert text == "<s> 12 </s>"
    assert tokenizer.encode(text) == [1, 4, 2]


@pytest.mark.parametrize(
    ("template", "extra", "bos"), [(False, {}, None), (True, {}, 1), (False, {"add_bos_token": True}, 1)]
)
def test_huggingface_start_token_only_where_the_model_prepends_it(tmp_path, template, extra, bos):
    config = {"eos_token": "</s>", "bos_token": "<s>", **extra}
    assert load_tokenizer(write_huggingface(tmp_path / "m", template=template, config=config), ()).bos_id == bos


def test_huggingface_add_bos_token_false_wins_over_the_template(tmp_path):
    config = {"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": False}
    assert load_tokenizer(write_huggingface(tmp_path / "m", template=True, config=config), ()).bos_id is None


def test_huggingface_undeclared_pad_keeps_token_0_in_texts(tmp_path):
    vocabulary = {"12": 0, "<pad>": 1, "<s>": 2, "</s>": 3, "<|end|>": 4}
    folder = write_huggingface(tmp_path / "m", vocabulary=vocabulary, config={"eos_token": "</s>"})
    tokenizer = load_tokenizer(folder, ())
    assert tokenizer.decode([0, 3]) == "12"


def test_huggingface_ids_with_gaps_count_to_the_highest(tmp_path):
    vocabulary = {word: i for i, word in enumerate(WORDS)} | {"99": 40}
    folder = write_huggingface(tmp_path / "m", vocabulary=vocabulary, config={"eos_token": "</s>"})
    tokenizer = load_tokenizer(folder, ())
    assert tokenizer.encode("99") == [40]
    assert tokenizer.size > 40


def test_huggingface_ignores_truncation_and_padding_of_the_file(tmp_path):
    folder = write_huggingface(tmp_path / "m", truncate=True, config={"eos_token": "</s>"})
    assert load_tokenizer(folder, ()).encode("12 + 34 =") == [4, 5, 6, 7]
    assert load_tokenizer(folder, ()).encode("12") == [4]


def test_huggingface_errors_say_what_is_missing(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        load_tokenizer(tmp_path, ())
    with pytest.raises(ValueError, match="no stop token in"):
        load_tokenizer(write_huggingface(tmp_path / "a"), ())
    with pytest.raises(ValueError, match="eos_token_id 99, and the tokenizer has ids 0 to 10"):
        load_tokenizer(write_huggingface(tmp_path / "b", generation={"eos_token_id": 99}), ())
    (write_huggingface(tmp_path / "c") / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json is not valid JSON"):
        load_tokenizer(tmp_path / "c", ())


def test_load_tokenizer_takes_what_is_there(tmp_path, sentencepiece_model):
    folder = write_huggingface(tmp_path / "m", config={"eos_token": "</s>"})
    for source in (None, "characters"):
        assert load_tokenizer(source, ["a", "b"]).encode("ba") == [3, 2]
    assert load_tokenizer(str(folder), ()).encode("12") == [4]
    (folder / "tokenizer.json").rename(folder / "renamed")
    assert load_tokenizer(folder / "renamed", ()).encode("12") == [4]
    assert load_tokenizer(sentencepiece_model, ()).stop_ids == (2,)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model.read_bytes())
    assert isinstance(load_tokenizer(tmp_path, ()), SentencePieceTokenizer)
    write_huggingface(tmp_path, config={"eos_token": "</s>"})
    assert isinstance(load_tokenizer(tmp_path, ()), HuggingFaceTokenizer)


def test_load_tokenizer_says_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer\.json or tokenizer\.model in .*; give a folder with one"):
        load_tokenizer(tmp_path, ())
    with pytest.raises(ValueError, match="tokenizer: there is no file or folder nowhere; give characters, a model's"):
        load_tokenizer("nowhere", ())
    (tmp_path / "bad").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        load_tokenizer(tmp_path / "bad", ())
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        load_tokenizer(tmp_path / "bad", ())


def test_tokens_by_their_ids(tmp_path, sentencepiece_model):
    words = load_tokenizer(write_huggingface(tmp_path / "words", config={"eos_token": "</s>"}), ())
    assert words.tokens()[2] == "</s>" and words.tokens()[4] == "12"
    assert sorted(words.tokens()) == list(range(words.size))  # <think> and </think> are added
    pieces = SentencePieceTokenizer(sentencepiece_model)
    assert sorted(pieces.tokens()) == list(range(pieces.size)) and "</s>" in pieces.tokens().values()
    characters = CharacterTokenizer(["a", "b", *TAGS])
    characters.save(tmp_path / "characters")
    assert characters.tokens() == load_tokenizer(tmp_path / "characters", ()).tokens()


def test_the_same_tokens_whatever_stops(tmp_path):
    """A base model and its chat model differ in their stop tokens, not in what ids mean."""
    config = {"eos_token": "</s>"}
    base = load_tokenizer(write_huggingface(tmp_path / "base", config=config), ())
    chat = load_tokenizer(write_huggingface(tmp_path / "chat", config=config, generation={"eos_token_id": [3]}), ())
    assert base.stop_ids != chat.stop_ids
    check_same_tokens("chat", chat, base)
    others = {word: i for i, word in enumerate([*WORDS[:4], "12", "-", "34", "=", "46"])}
    other = load_tokenizer(write_huggingface(tmp_path / "other", vocabulary=others, config=config), ())
    with pytest.raises(ValueError, match=r"the tokenizer of other is another one: id 5 is '-' there and '\+' here"):
        check_same_tokens("other", other, base)


def test_huggingface_save_round_trip(tmp_path):
    config = {"eos_token": "</s>", "bos_token": "<s>", "pad_token": "<pad>", "add_bos_token": True}
    folder = write_huggingface(tmp_path / "m", config=config)
    (folder / "chat_template.jinja").write_text("{{ eos_token }}")
    (folder / "model.safetensors").write_text("weights are not the tokenizer's")
    tokenizer = load_tokenizer(folder, ())
    tokenizer.save(tmp_path / "new" / "copy")
    tokenizer.save(folder)  # onto itself: nothing to do
    copy = load_tokenizer(tmp_path / "new" / "copy", ())
    names = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {file.name for file in (tmp_path / "new" / "copy").iterdir()} == names
    assert (copy.size, copy.stop_ids, copy.bos_id) == (tokenizer.size, tokenizer.stop_ids, tokenizer.bos_id)
    assert copy.encode("<think> 12 + 34") == tokenizer.encode("<think> 12 + 34")
    assert copy.chat_template.render([]) == "</s>"


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        ([*TAGS, *"0123456789+="], "<think>1+0=</think><answer>2</answer>"),
        (["a", "ab", "abc", "b", "c"], "abcabaca"),
        (list(".*+?()[]{}|^$\\\n -#&~/'\"é→𝟙\t\r"), ".*+?()[]{}|^$\\\n -#&~/'\"é→𝟙\t\r  \n\n"),
    ],
)
def test_characters_save_as_the_same_huggingface_tokenizer(tmp_path, symbols, text):
    tokenizer = CharacterTokenizer(symbols)
    tokenizer.save(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved", ())
    assert (saved.size, saved.stop_ids, saved.bos_id) == (tokenizer.size, tokenizer.stop_ids, tokenizer.bos_id)
    ids = tokenizer.encode(text)
    assert saved.encode(text) == ids
    assert saved.encode_batch([text, ""]) == tokenizer.encode_batch([text, ""]) == [ids, []]
    assert saved.decode([*ids, 1, 0]) == tokenizer.decode([*ids, 1, 0]) == text
    with pytest.raises(Exception, match=re.escape("WordLevel error")):  # as the original raises, not a silent id
        saved.encode("a§")


def test_characters_that_cannot_be_saved_say_why(tmp_path):
    with pytest.raises(ValueError, match=r"the alphabet has '<\|stop\|>', which the saved tokenizer needs"):
        CharacterTokenizer(["a", "<|stop|>"]).save(tmp_path)


def test_the_turn_end_of_the_chat_template_stops(tmp_path):
    """Of a base model, say, with a chat template, whose eos token ends documents."""
    byte_tokenizer(tmp_path, CHATML, eos="<|endoftext|>")
    tokenizer = load_tokenizer(tmp_path, ())
    (end,) = tokenizer.encode("<|im_end|>")
    assert tokenizer.stop_ids == (*tokenizer.encode("<|endoftext|>"), end) and tokenizer.turn_end == end
    ids = tokenizer.encode("yes")
    assert with_stop(tokenizer, ids, in_chat=True) == [*ids, end]
    assert with_stop(tokenizer, ids, in_chat=False) == [*ids, tokenizer.stop_ids[0]]
    for ended in ("yes<|im_end|>", "yes<|im_end|>\n", "yes<|im_end|> no<|endoftext|>"):  # no second stop token
        assert with_stop(tokenizer, tokenizer.encode(ended), in_chat=True) == [*ids, end]
    assert tokenizer.decode([*ids, end]) == "yes"


def test_a_turn_end_that_is_no_token_stops_as_text(tmp_path):
    """The template of another model, say, on a vocabulary without its tokens."""
    byte_tokenizer(tmp_path, CHATML.replace("im_end", "end_of_turn"), eos="<|endoftext|>")
    tokenizer = load_tokenizer(tmp_path, ())
    assert (tokenizer.stop_texts, tokenizer.turn_end) == (("<|end_of_turn|>",), None)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].role }}{% if messages[1] is defined %}: {{ messages[1].content }}\n{% endif %}",  # none
        "{{ raise_exception('no') }}",
        "{{ messages[0].content }}",
        "{% for m in messages %}{{ '<|im_start|>' + m.content }}.{% endfor %}",  # before the text, not after it
    ],
)
def test_templates_without_a_turn_end(template, tmp_path):
    byte_tokenizer(tmp_path, template, eos="<|endoftext|>")
    tokenizer = load_tokenizer(tmp_path, ())
    assert (tokenizer.stop_ids, tokenizer.turn_end) == (tuple(tokenizer.encode("<|endoftext|>")), None)


def test_stops_that_are_given(tmp_path):
    byte_tokenizer(tmp_path, "{{ messages }}", eos="<|endoftext|>")
    (tmp_path / "generation_config.json").write_text('{"stop_strings": "Human:"}')
    tokenizer = load_tokenizer(tmp_path, (), ["<|im_end|>", "\nUser:", "."])
    assert tokenizer.stop_ids == tuple(tokenizer.encode("<|endoftext|><|im_end|>"))
    assert tokenizer.stop_texts == ("Human:", "\nUser:", ".")  # "." may be a part of other tokens
    characters = load_tokenizer(None, [*"ab", "</answer>"], ["</answer>", "ba"])
    assert (characters.stop_ids, characters.stop_texts) == ((1, 4), ("ba",))
