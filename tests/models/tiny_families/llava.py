"""LLaVA 1.5: CLIP's tower without its class token, a Llama, no chat template of its own."""

from pathlib import Path

from tests.models.tiny_families import TINY, draw_weights


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a picture is 64 pixels wide and 16 tokens."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlavaConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "num_key_value_heads": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **sizes,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": 64,
            "patch_size": 16,
            "projection_dim": 64,
            **sizes,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    draw_weights(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    image_processor.save_pretrained(folder)
