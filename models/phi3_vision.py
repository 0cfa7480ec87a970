r"""Phi-3-Vision, by its own code (Abdin et al. 2024, arXiv:2404.14219). Not run here.

Written after that code (https://huggingface.co/microsoft/Phi-3-vision-128k-instruct, files
processing_phi3_v.py and image_processing_phi3_v.py): an image is so many times the id -1, and the
text behind it is tokenised as a separate text, which starts with `<s>`. It runs only with
`--trust_remote_code` and a pinned `--revision`, and it needs torchvision.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.chat import ChatFamily

if TYPE_CHECKING:
    import torch
    from PIL import Image

_IMAGE = -1  # the first image's id, of which the model makes room for its features


class Phi3Vision(ChatFamily):
    """Phi-3-Vision and Phi-3.5-Vision; the tower that sees lies inside the language model."""

    name = "phi3_vision"
    model_types = ("phi3_v",)
    auto_class = "AutoModelForCausalLM"
    language_model = "model.layers"
    unquantized_modules = ("model.vision_embed_tokens", "lm_head")
    image_token = "<|image|>"  # nosec B105
    chat_template = (
        "{% for message in messages %}{{ '<|' + message.role + '|>\\n' }}"
        "{% for part in message.content %}"
        "{{ '<|image|>\\n' if part.type == 'image' else part.text }}{% endfor %}"
        "{{ '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    )

    @cached_property
    def image_token_id(self) -> int:
        """Return the token that stands for the image in a template; the model never gets it."""
        return int(self.tokenizer.convert_tokens_to_ids(self.image_token))

    @cached_property
    def image_processor(self) -> Any:
        """Return what turns an image into tiles of 336 pixels, by the checkpoint's own code."""
        from transformers import AutoImageProcessor

        try:
            return self._from_pretrained(AutoImageProcessor)
        except ImportError as error:
            raise ValueError(
                f"The code of {self.location} needs a package that is not installed "
                f"({' '.join(str(error).split()).rstrip('.')}); install it."
            ) from error

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return `pixel_values` (tiles, 3, 336, 336), `image_sizes` (2,) and the ids for them."""
        inputs = self.image_processor(images=[image], return_tensors="pt")
        pixels = {name: inputs[name][0] for name in ("pixel_values", "image_sizes")}
        start_of_text = self.tokenizer("")["input_ids"]
        return pixels, [_IMAGE] * int(inputs["num_img_tokens"][0]) + start_of_text
