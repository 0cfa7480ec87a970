"""InternVL 3: tiles with the whole image last, a Qwen2, tokens `<img>` and `</img>` around."""

from pathlib import Path

from tests.models.tiny_families import SIZES, TINY, decoder, save_model

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"),
)
ROLES = {  # under these names the real processor asks for them
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def make(folder: Path) -> None:
    """Save about 0.3 M random weights; a tile is 32 x 32 pixels and 4 tokens, of 6 at most."""
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL),
        model_specific_special_tokens=ROLES,
    )
    config = InternVLConfig(
        text_config=decoder(
            tokenizer,
            "qwen2",
            bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            pad_token_id=None,
        ),
        vision_config={
            "model_type": "internvl_vision",
            "image_size": [32, 32],
            "patch_size": [8, 8],
            **SIZES,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    image_processor = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32},
        max_patches=6,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    save_model(folder, InternVLForConditionalGeneration(config), tokenizer, image_processor)
