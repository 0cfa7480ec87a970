"""Idefics 3 (and SmolVLM): no file of its own. Tiles by row and column, then the whole picture."""

from pathlib import Path

from tests.models.tiny_families import TINY, draw_weights

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
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "num_key_value_heads": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **sizes,
        },
        vision_config={"image_size": TILE, "patch_size": 8, **sizes},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Idefics3ForConditionalGeneration(config)
    draw_weights(model)
    model.save_pretrained(folder)
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": 3 * TILE}, max_image_size={"longest_edge": TILE}
    )
    Idefics3Processor(image_processor, tokenizer, image_seq_len=4).save_pretrained(folder)
