"""LLaVA-NeXT on Mistral: tiles of CLIP's tower, `<bos>` added by the tokenizer, an old template."""

import json
from pathlib import Path

from tests.models.tiny_families import TINY, clip_tower, decoder, save_model

# Renders as chat_template.json of llava-hf/llava-v1.6-mistral-7b-hf.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set text = message['content'] | selectattr('type', 'equalto', 'text') | first %}"
    "{% if message['role'] == 'system' %}{{ '<<SYS>>\\n' + text['text'] + '\\n<</SYS>>\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for _ in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}{{ text['text'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + text['text'] + '<eos> ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a tile is 32 x 32 pixels and 16 tokens."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        PreTrainedTokenizerFast,
    )

    words = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    words.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", words.token_to_id("<bos>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    grids = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    config = LlavaNextConfig(
        text_config=decoder(tokenizer, "mistral"),
        vision_config=clip_tower(32, 8),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        image_grid_pinpoints=grids,
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=grids,
    )
    save_model(folder, LlavaNextForConditionalGeneration(config), tokenizer, image_processor)
