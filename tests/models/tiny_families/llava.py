"""LLaVA 1.5: CLIP's tower without its class token, a Llama, no chat template of its own."""

from pathlib import Path

from tests.models.tiny_families import TINY, clip_tower, decoder, save_model


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; an image is 64 pixels wide and 16 tokens."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    config = LlavaConfig(
        text_config=decoder(tokenizer, "llama"),
        vision_config=clip_tower(64, 16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    save_model(folder, LlavaForConditionalGeneration(config), tokenizer, image_processor)
