"""Qwen3-VL: no file of its own. Patches in a row, positions in three dimensions."""

from pathlib import Path

from tests.models.tiny_families.qwen2_vl import save

# The layout of Qwen/Qwen3-VL-4B-Instruct.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(folder: Path) -> None:
    """Save about 0.4 M random weights; a token is 16 x 16 pixels, an image has 4 to 24."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 64,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    save(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, vision, head_dim=32)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
