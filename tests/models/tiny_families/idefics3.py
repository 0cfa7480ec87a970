"""Idefics 3 (and SmolVLM): no file of its own. Tiles by row and column, then the whole image."""

from pathlib import Path

from tests.models.tiny_families import SIZES, TINY, decoder, save_model

# The layout of HuggingFaceM4/Idefics3-8B-Llama3.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}"
    "{{ ':' if message.content[0].type == 'image' else ': ' }}"
    "{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
TILE = 32
SPECIAL = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a tile is 32 pixels wide and 4 tokens."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        bos_token="<bos>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        additional_special_tokens=[*SPECIAL, *PLACES],
        chat_template=TEMPLATE,
    )
    config = Idefics3Config(
        text_config=decoder(tokenizer, "llama"),
        vision_config={"image_size": TILE, "patch_size": 8, **SIZES},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": 3 * TILE}, max_image_size={"longest_edge": TILE}
    )
    processor = Idefics3Processor(image_processor, tokenizer, image_seq_len=4)
    save_model(folder, Idefics3ForConditionalGeneration(config), processor)
