"""Gemma 3: no file of its own. Its image sees itself in both directions, line breaks around."""

from pathlib import Path

from tests.models.tiny_families import SIZES, TINY, decoder, save_model

# The layout of google/gemma-3-4b-it, shorter: roles are user and model, the image is a part.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{% for part in message.content %}"
    "{{ '<start_of_image>' if part.type == 'image' else part.text }}{% endfor %}"
    "<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
NAMED = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; an image is 32 pixels wide and 4 soft tokens."""
    from tokenizers import AddedToken
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=NAMED,
        chat_template=TEMPLATE,
    )
    turns = [AddedToken(text, special=True) for text in ("<start_of_turn>", "<end_of_turn>")]
    tokenizer.add_tokens([*turns, "\n\n", "\n\n\n"])
    config = Gemma3Config(
        text_config=decoder(
            tokenizer,
            "gemma3_text",
            head_dim=32,
            query_pre_attn_scalar=32,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"],
        ),
        vision_config={"image_size": 32, "patch_size": 8, "vision_use_head": False, **SIZES},
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    image_processor = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(image_processor, tokenizer, image_seq_length=4)
    save_model(folder, Gemma3ForConditionalGeneration(config), processor)
