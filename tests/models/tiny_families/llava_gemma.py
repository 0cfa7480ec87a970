"""LLaVA on Gemma, as Intel/llava-gemma-2b: the language model's own template, which takes text."""

from pathlib import Path

from tests.models.tiny_families import TINY, draw_weights

# Renders as Gemma's: no system turn, the roles are user and model.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% set role = {'assistant': 'model'}.get(message['role'], message['role']) %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def make(folder: Path) -> None:
    """Save about 0.5 M random weights; a picture is 64 pixels wide and 17 tokens."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlavaConfig(
        text_config={
            "model_type": "gemma",
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "num_key_value_heads": 1,
            "head_dim": 32,
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
        vision_feature_select_strategy="full",  # with the class token
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    draw_weights(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    image_processor.save_pretrained(folder)
