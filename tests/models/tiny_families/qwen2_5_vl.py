"""Qwen2.5-VL: as Qwen2-VL, with a tower that looks through windows."""

from pathlib import Path

from tests.models.tiny_families.qwen2_vl import save


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a token is 16 x 16 pixels, an image has 4 to 24."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 2,
        "hidden_size": 64,
        "out_hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    save(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision, pad_token_id=None)
