"""LLaVA on Gemma, as Intel/llava-gemma-2b: the language model's own template, which takes text."""

from pathlib import Path

from tests.models.tiny_families import TINY, clip_tower, decoder, save_model

# Renders as Gemma's: no system turn, the roles are user and model.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% set role = {'assistant': 'model'}.get(message['role'], message['role']) %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def make(folder: Path) -> None:
    """Save about 0.5 M random weights; an image is 64 pixels wide and 17 tokens."""
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlavaConfig(
        text_config=decoder(tokenizer, "gemma", head_dim=32),
        vision_config=clip_tower(64, 16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",  # with the class token
        tie_word_embeddings=True,
    )
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    save_model(folder, LlavaForConditionalGeneration(config), tokenizer, image_processor)
