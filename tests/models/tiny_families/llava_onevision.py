"""LLaVA-OneVision on Qwen2: SigLIP's tower, grids up to 6 x 6 tiles, ChatML in its own way."""

from pathlib import Path

from tests.models.tiny_families import SIZES, TINY, decoder, save_model

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
# Renders as chat_template.json of llava-hf/llava-onevision-qwen2-7b-ov-hf: an answer is asked for
# behind "assistant\n", and written behind "assistant \n".
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for _ in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ '\\n' + part['text'] }}{% endgeneration %}"
    "{% else %}{{ '\\n' + part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a tile is 32 x 32 pixels and 16 tokens."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    grids = [[32 * rows, 32 * columns] for rows in range(1, 7) for columns in range(1, 7)]
    config = LlavaOnevisionConfig(
        text_config=decoder(
            tokenizer,
            "qwen2",
            bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            pad_token_id=None,
        ),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
            **SIZES,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        tie_word_embeddings=True,
    )
    image_processor = LlavaOnevisionImageProcessorPil(
        size={"height": 32, "width": 32}, image_grid_pinpoints=grids
    )
    save_model(folder, LlavaOnevisionForConditionalGeneration(config), tokenizer, image_processor)
