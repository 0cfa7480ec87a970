"""Which layers LoRA adapts, and the adapter that is trained on them."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.training.recipe import Recipe
from models.base import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# The two kinds of layers in the numbered blocks of the towers that see, whatever these call them;
# a projector behind them (`visual.merger.mlp.0` of Qwen2-VL) is of neither kind.
_VISION_GROUPS = {
    "attention": r".*\.\d+\.(?:.*\.)?(?:self_attn|self_attention|attn|attention)\.[\w.]+",
    "ffn": r".*\.\d+\.(?:.*\.)?(?:(?:mlp|ffn)\.[\w.]+|fc[12])",
}


def target_modules(
    model: "PreTrainedModel", family: Family, wanted: str, with_vision: bool = False
) -> str:
    """Return one regex of the full names of the layers that LoRA adapts, as PEFT matches it.

    Args:
        model: the base; it may be without weights.
        family: knows the language model and its groups.
        wanted: `attention`, `ffn`, `all-linear` or names of layers, commas between; or one regex
            of full names. They are looked for inside the language model.
        with_vision: adapt the layers outside it too that fit.

    Raises:
        ValueError: a part of `wanted` is no linear layer of the language model; names those
            that there are.
    """
    layers = linear_layers(model)
    inside = [name for name in layers if name.startswith(f"{family.language_model}.")]
    outside = [n for n in layers if with_vision and n not in inside and not family.is_unused(n)]
    is_regex = re.search(r"[\\()\[\]|*+?^$]", wanted) is not None
    if is_regex:
        try:
            re.compile(wanted)
        except re.error as error:
            raise ValueError(
                f"--lora_target_modules '{wanted}' is no regex ({error}); write .* for any text, "
                "or give names."
            ) from error
    chosen: list[str] = []
    for word in [wanted] if is_regex else [word.strip() for word in wanted.split(",")]:
        found = list(filter(_matcher(word, is_regex, family.lora_groups, ".*"), inside))
        if not found:
            leaves = ", ".join(sorted({name.rpartition(".")[2] for name in inside}))
            raise ValueError(
                f"--lora_target_modules '{word}' is no linear layer of {family.location}'s "
                f"language model, whose layers are {leaves}; give names of these, attention, "
                "ffn or all-linear with commas between, or one regex of full names."
            )
        seeing = list(filter(_matcher(word, is_regex, _VISION_GROUPS, ""), outside))
        chosen += found + seeing
    return _one_regex(set(chosen), [name for name, _ in model.named_modules()])


def linear_layers(model: "PreTrainedModel") -> list[str]:
    """Return the full names of the linear layers, the output layer aside."""
    from torch import nn

    head = model.get_output_embeddings()
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    ]


def _matcher(
    word: str, is_regex: bool, groups: dict[str, str], before: str
) -> Callable[[str], bool]:
    """Return the test that a part of `--lora_target_modules` puts to a layer's full name."""
    if word == "all-linear":
        return lambda name: True
    if word in groups:
        pattern = re.compile(rf"{before}(?:{groups[word]})")
        return lambda name: pattern.fullmatch(name) is not None
    if is_regex:
        return lambda name: re.fullmatch(word, name) is not None
    return lambda name: f".{name}".endswith(f".{word}")


def _one_regex(chosen: set[str], modules: Sequence[str]) -> str:
    """A regex that fits the chosen names alone; short where the same are chosen in each block.

    Args:
        chosen: full names of linear layers.
        modules: those of all modules, of any kind: PEFT compares with each.
    """
    by_pattern = defaultdict(list)
    for name in sorted(chosen):
        exact = re.escape(name)
        by_pattern[re.sub(r"\\\.\d+", r"\\.\\d+", exact)].append(exact)
    parts: list[str] = []
    for short, exact_names in sorted(by_pattern.items()):
        num_fits = sum(re.fullmatch(short, name) is not None for name in modules)
        parts += [short] if num_fits == len(exact_names) else exact_names
    return "|".join(parts)


def add_lora(model: "PreTrainedModel", family: Family, recipe: Recipe) -> Any:
    """Freeze the model and put a trainable adapter on it.

    Raises:
        ValueError: the recipe asks for layers that this model does not have, or goes on from an
            adapter that does not fit.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(recipe.seed)
    if recipe.lora_init_from is not None:
        logger.info(
            "going on from %s: its rank, alpha, dropout and layers count", recipe.lora_init_from
        )
        from models.adapter_loading import put_adapter

        return put_adapter(model, Path(recipe.lora_init_from), is_trainable=True)
    pattern = target_modules(model, family, recipe.lora_target_modules, recipe.lora_vision)
    adapted = [name for name in linear_layers(model) if re.fullmatch(pattern, name)]
    num_inside = sum(name.startswith(f"{family.language_model}.") for name in adapted)
    others = f" and {len(adapted) - num_inside} outside it" if recipe.lora_vision else ""
    logger.info("LoRA on %d layers of the language model%s", num_inside, others)
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        use_dora=recipe.use_dora,
        use_rslora=recipe.use_rslora,
        target_modules=pattern,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
