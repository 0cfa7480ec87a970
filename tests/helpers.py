"""What tests of several folders share: places, tiny models, files read, the form of an error."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.base import Dataset

REPOSITORY = Path(__file__).parents[1]

Load = Callable[[str, str, Path], Dataset]  # the fixture of the task tests


def make_pico(folder: Path, text_model: str, seed: int = 0) -> Path:
    """Save a random PaliGemma of about 0.4 M parameters with the embedded model's processor."""
    import torch
    from transformers import AutoProcessor, PaliGemmaConfig, PaliGemmaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(REPOSITORY / "models" / "tiny")
    tokenizer = processor.tokenizer
    vocabulary = -(-len(tokenizer) // 64) * 64
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text_config = {
        "model_type": text_model,
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 512,
        **special,
    }
    if text_model == "gemma2":  # low enough for the caps to matter
        text_config |= {"sliding_window": 16, "query_pre_attn_scalar": 32}
        text_config |= {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0}
    vision_config = {
        "model_type": "siglip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "projection_dim": 64,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_index=processor.image_token_id,
        projection_dim=64,
        hidden_size=64,
        vocab_size=vocabulary,
        **special,
    )
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:  # the library's 0.02 leaves all logits nearly equal
            torch.nn.init.normal_(parameter, std=0.02 if "embed_tokens" in name else 0.15)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@contextmanager
def one_sentence(*parts: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """The block raises `kind` with one line that ends as a sentence and holds every part."""
    with pytest.raises(kind) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for part in parts:
        assert re.search(re.escape(part), message), f"'{part}' is not in: {message}"


def sentence(exit_code: int, output: str) -> str:
    """The one sentence that a mistake gets, with which the output ends."""
    assert exit_code == 2, output
    assert "Traceback" not in output
    lines = output.rstrip().splitlines()
    assert [line.startswith("Error: ") for line in lines].count(True) == 1, output
    assert lines[-1].startswith("Error: ") and lines[-1].endswith((".", ")", "?")), output
    return lines[-1].removeprefix("Error: ")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_page(path: Path) -> Any:
    """The values that the script of a page draws."""
    return json.loads(path.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])


def hashes(folder: Path, leave_out: str = " ") -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and leave_out not in path.parts
    }
