"""Tokenizers as public folders have them: ids as of transformers (scripts/hf_folders.py), or a refusal."""

import json
from pathlib import Path

import pytest
from hf_folders import BASE, TOKENIZERS, texts, write_tokenizer

from r1jax.config.base import ConfigError
from r1jax.text.special_tokens import special_tokens
from r1jax.text.tokenizer import load_tokenizer

REFERENCES = Path(__file__).parents[1] / "references" / "folders"
IDS = json.loads((REFERENCES / "tokenizers.json").read_text())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_transformers(name, tmp_path):
    write_tokenizer(tmp_path / "folder", REFERENCES, *TOKENIZERS[name])
    (tmp_path / "folder" / "generation_config.json").write_text('{"eos_token_id": 2}')
    tokenizer = load_tokenizer(tmp_path / "folder", ())
    assert [tokenizer.encode(text) for text in texts()] == IDS[name] == tokenizer.encode_batch(texts())
    tokenizer.save(tmp_path / "saved")  # as runs and exports do, beside the model's config
    for file in ("config.json", "generation_config.json"):
        (tmp_path / "saved" / file).write_bytes((tmp_path / "folder" / file).read_bytes())
    saved = load_tokenizer(tmp_path / "saved", ())
    assert [saved.encode(text) for text in texts()] == IDS[name]
    assert saved.tokens() == tokenizer.tokens() and saved.stop_ids == tokenizer.stop_ids
    assert all(0 <= i < tokenizer.size for ids in IDS[name] for i in ids)


def written(folder, kind, **files):
    write_tokenizer(folder, REFERENCES, kind, {f"{name}.json": content for name, content in files.items()})
    return folder


def test_all_special_tokens_are_known_to_templates(tmp_path):
    more = {"sep_token": {"content": "[SEP]"}, "mask_token": "[M]", "extra_special_tokens": {"image_token": "<image>"}}
    folder = written(
        tmp_path, "special.json", tokenizer_config=BASE | more | {"add_bos_token": True, "cls_token": None}
    )
    names = {"sep_token": "[SEP]", "mask_token": "[M]", "image_token": "<image>"}
    assert special_tokens(folder) == BASE | names
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ sep_token }}{{ image_token }}{{ cls_token }}")
    assert load_tokenizer(folder, ()).chat_template.render([]) == "<s>[SEP]<image>"


@pytest.mark.parametrize(
    ("kind", "files", "reason"),
    [
        (
            "special.json",
            {"tokenizer_config": {"additional_special_tokens": [{"a": 1}]}},
            "token {.* is described wrong",
        ),
        ("special.json", {"tokenizer_config": {"additional_special_tokens": [{"content": 5}]}}, "is described wrongly"),
        (
            "tokenizer.json",
            {"added_tokens": {"<|im_end|>": 499}},
            r"gives '<\|im_end\|>' the id 499 in .*, and its v.* 400",
        ),
        ("tokenizer.model", {"added_tokens": {"<|im_end|>": 499}}, r"gives '<\|im_end\|>' the id 499 in .* 400"),
        ("tokenizer.model", {"added_tokens": {"<s>": 7}}, r"gives '<s>' the id 7 in .*, and its vocabulary 1; use"),
        ("special.json", {"added_tokens": {"<a>": "x"}}, "does not map ids and tokens; use the files of one model"),
        ("special.json", {"tokenizer_config": {"added_tokens_decoder": {"x": {}}}}, "does not map ids and tokens"),
        ("special.json", {"tokenizer_config": {"added_tokens_decoder": [1]}}, "does not map ids and tokens"),
        ("special.json", {"tokenizer_config": {"eos_token": 5}}, "eos_token is 5; a special token is a text"),
        ("special.json", {"tokenizer_config": {"eos_token": {"content": 5}}}, "eos_token is .* a special token is a t"),
        (
            "special.json",
            {"generation_config": {"eos_token_id": "2"}},
            "has eos_token_id '2', and the tokenizer has ids",
        ),
        ("special.json", {"generation_config": {"eos_token_id": [[2]]}}, r"has eos_token_id \[2\], and the tokenizer"),
        (
            "vocab.json",
            {"config": {"model_type": "llama"}},
            "class none divides texts is known of GPT2Tokenizer, Qwen2T",
        ),
    ],
)
def test_settings_that_are_refused(kind, files, reason, tmp_path):
    with pytest.raises(ValueError, match=reason) as caught:
        load_tokenizer(written(tmp_path, kind, **{"tokenizer_config": BASE} | files), ())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["chat_template.jinja", "special_tokens_map.json"])
def test_a_link_out_of_the_folder_is_not_copied(name, tmp_path):
    """Neither into a run nor into an export; the hub's cache, all of whose files are links to its blobs, is."""
    (tmp_path / "secret").write_text('{"pad_token": "secret"}')
    folder = written(tmp_path / "model", "special.json", tokenizer_config=BASE)
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match=rf"{name} is a link to .*/secret, which is outside of the model's folder"):
        load_tokenizer(folder, ()).save(tmp_path / "copy")
    assert not (tmp_path / "copy" / name).exists()
    blobs, snapshot = tmp_path / "models--o--n" / "blobs", tmp_path / "models--o--n" / "snapshots" / "1a"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (folder / name).unlink()
    (folder / name).write_text('{"pad_token": "<unk>"}')
    for file in folder.iterdir():
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    (tmp_path / "link").symlink_to(snapshot)
    load_tokenizer(tmp_path / "link", ()).save(tmp_path / "of the link")
    load_tokenizer(snapshot, ()).save(tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_text() == '{"pad_token": "<unk>"}'
