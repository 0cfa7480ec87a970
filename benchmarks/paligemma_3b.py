"""PaliGemma-3B at its true shapes with random weights: memory and speed depend on these alone."""

import gc
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from models.checkpoint import resolve
from models.encoding import Encoded
from models.loading import LoadedModel, load_family, load_model
from models.quantization import Quantization

NUM_PROMPT_TOKENS = 24
NUM_ANSWER_TOKENS = 8


def paligemma_3b(image_size: int) -> PaliGemmaConfig:
    """Return the config of google/paligemma-3b-pt: Gemma 2B over SigLIP so400m/14."""
    text_config = {
        "model_type": "gemma",
        "vocab_size": 257_216,
        "hidden_size": 2048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
    }
    vision_config = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": image_size,
        "patch_size": 14,
        "projection_dim": 2048,
        "vision_use_head": False,
    }
    return PaliGemmaConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_index=257_152,
        projection_dim=2048,
        hidden_size=2048,
        vocab_size=257_216,
    )


def small_paligemma() -> PaliGemmaConfig:
    """Return PaliGemma with its vocabulary and 1,024 image tokens, small enough for a CPU."""
    config = paligemma_3b(448)
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "head_dim": 64}
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    vision |= {"num_attention_heads": 4, "projection_dim": 512}
    return PaliGemmaConfig(
        text_config=config.text_config.to_dict() | text,
        vision_config=config.vision_config.to_dict() | vision,
        image_token_index=config.image_token_id,
        projection_dim=512,
        hidden_size=512,
        vocab_size=257_216,
    )


def load(is_tiny: bool, image_size: int, quantization: Quantization) -> LoadedModel:
    """Load the model through the loading path that training uses."""
    if is_tiny:
        return load_model(resolve("tiny"), quantization=quantization, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            model = PaliGemmaForConditionalGeneration(paligemma_3b(image_size))
        torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        del model
        empty_cache()
        return load_from(Path(folder), quantization, "cuda")


def load_from(folder: Path, quantization: Quantization, device: str) -> LoadedModel:
    """Load a checkpoint without a processor: the embedded model's stands in for it."""
    tiny = resolve("tiny")
    base = replace(tiny, base=str(folder), fingerprint=None)
    return load_model(base, quantization=quantization, device=device, family=load_family(tiny))


def empty_cache() -> None:
    """Give back the memory of what was dropped; trainers are full of cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class RandomExamples(torch.utils.data.Dataset[Encoded]):
    """Examples of one length with random tokens and pixels; made once, read without cost."""

    def __init__(self, config: Any, num_examples: int) -> None:
        generator = torch.Generator().manual_seed(0)
        size = config.vision_config.image_size
        num_image = (size // config.vision_config.patch_size) ** 2
        num_text = NUM_PROMPT_TOKENS + NUM_ANSWER_TOKENS
        self.examples = [
            Encoded(
                input_ids=[config.image_token_id] * num_image
                + torch.randint(300, 600, (num_text,), generator=generator).tolist(),
                is_target=[False] * (num_image + NUM_PROMPT_TOKENS) + [True] * NUM_ANSWER_TOKENS,
                image_spans=((0, num_image),),
                pixels={"pixel_values": torch.rand(3, size, size, generator=generator) * 2 - 1},
            )
            for _ in range(num_examples)
        ]

    def __len__(self) -> int:
        return 1_000_000

    def probable_longest(self) -> list[int]:
        """Return the first: all are of one length."""
        return [0]

    def __getitem__(self, key: Any) -> Encoded:
        index = key if isinstance(key, int) else key[1]
        return self.examples[index % len(self.examples)]


def step_flops(config: Any, batch_size: int, recompute: bool, lora_rank: int) -> float:
    """Compute the floating-point operations that one step needs, a multiply-add as two.

    The frozen tower runs forward only, the decoder's weights get no gradient, and the output layer
    and the last layer's feed-forward work at the answers' positions alone. Recomputation leaves
    that layer out.
    """
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    length = patches + NUM_PROMPT_TOKENS + NUM_ANSWER_TOKENS
    width, inner, seen = text.hidden_size, text.intermediate_size, vision.hidden_size
    heads = text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    block = 4 * seen**2 + 2 * seen * vision.intermediate_size
    tower = 2 * patches * (vision.num_hidden_layers * block + 3 * vision.patch_size**2 * seen)
    tower += 4 * vision.num_hidden_layers * patches**2 * seen + 2 * patches * seen * width
    layers, inside = text.num_hidden_layers, 3 * width * inner
    unread = length - NUM_ANSWER_TOKENS
    layer = 2 * width * (heads + keys) + inside
    dense = 2 * (length * layers * layer - unread * inside)
    attention = 4 * layers * length**2 * heads
    again = (layers - 1) * (2 * length * layer + 4 * length**2 * heads) if recompute else 0
    head = 2 * NUM_ANSWER_TOKENS * width * text.vocab_size
    ends = 2 * (width + heads) + 2 * (width + keys) + 3 * (width + inner)
    lora = 6 * lora_rank * (length * layers * ends - unread * 3 * (width + inner))
    forward = tower + dense + attention + head
    backward = dense + 2 * attention + head + again
    return float(batch_size * (forward + backward + lora))
