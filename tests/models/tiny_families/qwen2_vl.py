"""Qwen2-VL: conversations in ChatML, no token at the start, output layer tied to the input."""

from pathlib import Path
from typing import Any

from tests.models.tiny_families import TINY, decoder, save_model

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a token is 16 x 16 pixels, an image has 4 to 24."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    save(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision, pad_token_id=None)


def save(
    folder: Path, config_class: Any, model_class: Any, vision: dict[str, Any], **text: Any
) -> None:
    """Save a model of any generation with tokenizer and image processor."""
    from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL),
    )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = config_class(
        text_config=decoder(
            tokenizer,
            f"{config_class.model_type}_text",
            rope_parameters={"rope_type": "default", "mrope_section": [4, 6, 6]},
            bos_token_id=ids["<|endoftext|>"],
            **text,
        ),
        vision_config={"patch_size": 8, **vision},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=8, size={"shortest_edge": 4 * 256, "longest_edge": 24 * 256}
    )
    save_model(folder, model_class(config), tokenizer, image_processor)
