"""Defines the character vocabulary of the demo model and writes its tokenizer files."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models

PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, UNK_TOKEN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL_TOKENS = (PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, UNK_TOKEN)
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)

CHARACTERS = "\n" + "".join(chr(code) for code in range(0x20, 0x7F))
"""Newline and printable ASCII; every character is one token."""

VOCAB = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *CHARACTERS))}
VOCAB_SIZE = len(VOCAB)


def encode(text: str) -> list[int]:
    """Returns one token id per character, without BOS or EOS."""
    return [VOCAB.get(character, UNK_ID) for character in text]


def decode(token_ids: list[int]) -> str:
    """Returns the text of `token_ids`; special tokens are left out."""
    first = len(SPECIAL_TOKENS)
    return "".join(CHARACTERS[i - first] for i in token_ids if i >= first)


def build_tokenizer() -> Tokenizer:
    """Builds the same vocabulary as a fast tokenizer: byte pair encoding without merges."""
    tokenizer = Tokenizer(models.BPE(vocab=VOCAB, merges=[], unk_token=UNK_TOKEN))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    return tokenizer


def write_tokenizer_files(directory: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    build_tokenizer().save(str(directory / "tokenizer.json"))
    names = {
        "bos_token": BOS_TOKEN,
        "eos_token": EOS_TOKEN,
        "pad_token": PAD_TOKEN,
        "unk_token": UNK_TOKEN,
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "padding_side": "left",
        **names,
    }
    for filename, content in (
        ("tokenizer_config.json", settings),
        ("special_tokens_map.json", names),
    ):
        (directory / filename).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
