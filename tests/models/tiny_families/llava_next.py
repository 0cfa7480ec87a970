"""LLaVA-NeXT on Mistral: tiles of CLIP's tower, `<bos>` added by the tokenizer, an old template."""

import json
from pathlib import Path

from tests.models.tiny_families import TINY, draw_weights

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
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    grids = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    config = LlavaNextConfig(
        text_config={
            "model_type": "mistral",
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "num_key_value_heads": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **sizes,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 64,
            **sizes,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        image_grid_pinpoints=grids,
    )
    model = LlavaNextForConditionalGeneration(config)
    draw_weights(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=grids,
    )
    image_processor.save_pretrained(folder)
