"""The baseline of `speculation.py`: `transformers.generate` on the same checkpoint."""

import importlib
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.speculation_table import Record

TEMPERATURE = 0.8


def load_reference(target: Path, device: str, threads: int) -> tuple[Any, Any]:
    """Loads the same checkpoint with transformers."""
    transformers: Any = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = transformers.LlamaForCausalLM.from_pretrained(target, dtype=dtype)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(target / "tokenizer.json"))
    return model.eval().to(device), tokenizer


@torch.inference_mode()
def generate(reference: tuple[Any, Any], prompt: str, branches: int, max_tokens: int) -> Record:
    """Decodes the branches of one problem with transformers."""
    model, tokenizer = reference
    inputs = torch.tensor([tokenizer.encode(prompt)], device=model.device)
    pad = model.generation_config.pad_token_id
    start = time.perf_counter()
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        num_return_sequences=branches,
        max_new_tokens=max_tokens,
    )
    completions = output[:, inputs.shape[1] :].tolist()
    wall_s = time.perf_counter() - start
    lengths = [sum(token != pad for token in row) for row in completions]
    return {
        "kind": "decode",
        "engine": "transformers",
        "num_speculative_tokens": None,
        "wall_s": wall_s,
        "tokens": sum(lengths),
        "tpot_s": wall_s / max(map(len, completions)),
    }
