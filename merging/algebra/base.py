"""A base model as its config and the headers of its safetensors shards describe it.

No weight is loaded before it is asked for, and no file of the Hub but config.json is fetched before
a weight or a header is. File format: https://huggingface.co/docs/safetensors, "Format".
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merging.algebra.stored_tensors import Shard, StoredTensor, read_shard
from models.base import Family
from models.checkpoint import read_config
from models.registry import family_of
from models.whole_weights import INDEX, load_whole, read_index

WEIGHTS = "model.safetensors"
# What a folder holds beside its weights and config.json so that it can be used.
COMPANIONS = (
    "generation_config.json",
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json"),
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A full model that adapters were trained on.

    Attributes:
        name: folder, Hub id or `tiny`, as it was given.
        revision: the commit on the Hub, None for a folder.
        config: the content of config.json.
        local: the folder, None on the Hub.
    """

    name: str
    revision: str | None
    config: dict[str, Any]
    local: Path | None

    @cached_property
    def folder(self) -> Path:
        """Return the folder with the weights; fetches them from the Hub at the first use.

        Raises:
            ValueError: the download failed.
        """
        return self.local or _download(self.name, self.revision)

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Return the files with the weights.

        Raises:
            ValueError: there is none, one is missing, or one is not whole.
        """
        if (self.folder / WEIGHTS).is_file():
            return (read_shard(self.folder / WEIGHTS, self.config.get("model_type")),)
        if self.index is None:
            raise ValueError(_without_weights(self.folder))
        names = sorted(set(self.index["weight_map"].values()))
        for name in names:
            # a name with a folder in it would be written there too
            if Path(name).name != name or not (self.folder / name).is_file():
                raise ValueError(
                    f"{self.folder / INDEX} lists {name}, which is not in that folder; copy or "
                    "download the model again."
                )
        return tuple(
            read_shard(self.folder / name, self.config.get("model_type")) for name in names
        )

    @cached_property
    def index(self) -> dict[str, Any] | None:
        """Return the content of the index; None where one file holds all weights.

        Raises:
            ValueError: it is no index.
        """
        path = self.folder / INDEX
        if (self.folder / WEIGHTS).is_file() or not path.is_file():
            return None
        return read_index(path)

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Map canonical names to tensors on disk; without the copy that tying adds in memory.

        Raises:
            ValueError: as for `shards`.
        """
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    def read_weight(self, module: str) -> Tensor:
        """Read the (d_out, d_in) weight of a module, by its canonical name, in float32."""
        return self.tensors[f"{module}.weight"].read().float()

    @property
    def is_tied(self) -> bool:
        """Return True where embed_tokens is the output layer's weight as well."""
        is_said = self.config.get("tie_word_embeddings") is True
        return is_said or "lm_head.weight" not in self.tensors

    @property
    def quantization(self) -> str | None:
        """Return the method that the weights are quantised by, such as gptq; None if unknown."""
        config = self.config.get("quantization_config")
        return str(config.get("quant_method", "an unknown method")) if config else None

    @property
    def is_bitsandbytes(self) -> bool:
        """Return True where bitsandbytes stores the weights, which it can give back."""
        return self.quantization == "bitsandbytes"

    def check_unquantized(self) -> None:
        """Raise ValueError where updates cannot be added to the weights as they are stored."""
        if self.quantization:
            raise ValueError(
                f"{self.name} is quantised ({self.quantization}) and a full export needs the "
                "unquantised base; pass that, or export an adapter."
            )

    def check_whole(self) -> None:
        """Verify by the headers that the files hold each weight of the model, in its shape.

        Raises:
            ValueError: one is missing or of another shape: who loads a merge over these files
                would get random numbers there.
        """
        family = self._family()
        load_whole(
            family.model_class,
            str(self.folder),
            is_unused=family.is_unused,
            device_map={"": "meta"},
        )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Map canonical names of linear layers and embeddings to their (d_out, d_in).

        A tied lm_head has that of embed_tokens: an adapter can change it, though the files lack it.
        From the headers; on the Hub or quantised, where those are far or of packed numbers, from
        the config.
        """
        if self.local is not None and not self.quantization:
            shapes = {t.module: t.shape for t in self.tensors.values() if t.is_matrix}
        else:
            shapes = {
                name.removesuffix(".weight"): tuple(parameter.shape)
                for name, parameter in self._skeleton().named_parameters()
                if name.endswith(".weight") and parameter.dim() == 2
            }
        embeddings = [shape for name, shape in shapes.items() if name.endswith("embed_tokens")]
        if embeddings:
            shapes.setdefault("lm_head", embeddings[0])
        return {module: (d_out, d_in) for module, (d_out, d_in) in shapes.items()}

    def quantized_in_training(self) -> frozenset[str]:
        """Return the canonical names of the linear layers that QLoRA training holds in 4 bits.

        Raises:
            ValueError: the model is of no known family.
        """
        family = family_of(str(self.config.get("model_type")), self.name)
        return frozenset(
            name
            for name, module in self._skeleton().named_modules()
            if isinstance(module, torch.nn.Linear)
            and not name.startswith(family.unquantized_modules)
        )

    def _skeleton(self) -> Any:
        """The model without weights."""
        return self._family().empty_model

    def _family(self) -> Family:
        """What knows the model's layers; it has no code of its own."""
        kind = family_of(str(self.config.get("model_type")), self.name)
        family = kind(str(self.local or self.name), self.revision)
        try:
            _ = family.config
        except ValueError as error:
            raise ValueError(
                f"{self.name} is a model with its own code, whose layers are not known without "
                "running it; adapters of such models cannot be merged here."
            ) from error
        return family


def open_base(name: str, revision: str | None = None) -> Base:
    """Find a base model and read its config.

    Args:
        name: folder, Hub id or `tiny`.
        revision: of the Hub repository.

    Raises:
        ValueError: nothing there, not a full model, or the Hub cannot be reached.
    """
    config, folder, commit = read_config(name, revision)
    return Base(name=name, revision=commit, config=config, local=folder)


def _without_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if not pickled:
        return f"{folder} has no weights: neither {WEIGHTS} nor {INDEX} is there."
    return (
        f"{folder} has its weights in {pickled[0]}, not in safetensors files; convert it first: "
        "load it with transformers and call save_pretrained on a new folder."
    )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["model*.safetensors", INDEX, "config.json", *COMPANIONS]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except OSError as error:  # what the Hub's library raises, a full disk included
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The weights of {name} cannot be fetched from the Hub ({reason}); try again, or pass "
            "a folder with the model."
        ) from error
