"""Settings of the four-step pipeline: `.env`, the environment, four YAML files and options.

The YAML files keep the names of the libraries that they configure: `transformers.TrainingArguments`
(https://huggingface.co/docs/transformers/main_classes/trainer) and `peft.LoraConfig`
(https://huggingface.co/docs/peft/package_reference/lora). What cannot be carried out is refused.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from common.near_paths import did_you_mean
from experiments.training_options import Training, training_options
from experiments.yaml_settings import read_yaml, to_settings
from finetuning.training.recipe import Recipe
from models.processor_files import processor_class
from models.quantization import Quantization
from tasks.files import read_bytes

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint

T = TypeVar("T")
FALLBACK = "fallback"


class TrainConfig(Training, frozen=True, forbid_unknown_fields=True):
    """Settings of training and answers; None is the default of `palitune train image_qa`."""

    bf16: bool = False
    fp16: bool = False
    optim: str | None = None
    dataloader_num_workers: int | None = None
    report_to: str | None = None


class PeftConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the adapter, and the precision of what it sits on."""

    r: int = Recipe.lora_rank
    lora_alpha: int = Recipe.lora_alpha
    lora_dropout: float = Recipe.lora_dropout
    target_modules: str | list[str] = Recipe.lora_target_modules
    use_dora: bool = Recipe.use_dora
    use_rslora: bool = Recipe.use_rslora
    bias: Literal["none"] = "none"
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    quantization: Quantization = Recipe.quantization


class Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The classes of transformers that read a model; None takes the checkpoint's own."""

    model_class: str | None = None
    processor_class: str | None = None
    import_path: Literal["transformers"] = "transformers"


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of the data set."""

    image: str = "image"
    question: str = "question"
    answer: str = "answer"


class MessageFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts for the model; None is nothing and the task's own prompt."""

    system: str | None = None
    user: str | None = None


class Collator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that turn a row of the data set into a conversation."""

    dataset_columns: Columns = Columns()
    message_format: MessageFormat = MessageFormat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the steps are told.

    Attributes:
        root: folder of `dataset` and `results`.
        model_id: folder, Hub id or `tiny`; None where nothing names one.
        dataset: folder or Hub id; None where nothing names one.
        dataset_config: which of the configurations of a Hub repository.
        train, peft, classes, collator: the YAML files.
        onto: what the adapter is merged onto, as in `palitune merge`.
        seed: of every random choice.
        max_samples: most examples to train on, and to score.
    """

    root: Path
    model_id: str | None
    dataset: str | None
    dataset_config: str | None
    train: TrainConfig
    peft: PeftConfig
    classes: Classes
    collator: Collator
    onto: str
    seed: int
    max_samples: int | None

    @property
    def asking(self) -> dict[str, Any]:
        """Return the options that training and evaluation share: model, data and asking."""
        columns = self.collator.dataset_columns
        names = {"image": columns.image, "instruction": columns.question}
        names["response"] = columns.answer
        training = self._training
        shared = ("dtype", "max_length", "max_new_tokens", "min_new_tokens", "num_beams")
        drawing = ("do_sample", "temperature", "top_p")
        return {
            "model_class": self.classes.model_class,
            "data_root": self.root / "dataset" / "raw",
            "hub_columns": [f"{name}={column}" for name, column in names.items()],
            "system_message": self.collator.message_format.system,
            "prompt_template": self.collator.message_format.user,
            "seed": self.seed,
            "max_eval_samples": self.max_samples or self.train.max_eval_samples,
            "num_workers": self.train.dataloader_num_workers,
            **{name: training[name] for name in (*shared, *drawing)},
        }

    @property
    def training(self) -> dict[str, Any]:
        """Return the options of `palitune train image_qa`, the output folder apart."""
        targets = self.peft.target_modules
        return {
            **self._training,
            **self.asking,
            "model_path": self.model_id,
            "eval_split": "test",
            "max_train_samples": self.max_samples or self.train.max_train_samples,
            "lora_rank": self.peft.r,
            "lora_alpha": self.peft.lora_alpha,
            "lora_dropout": self.peft.lora_dropout,
            "lora_target_modules": targets if isinstance(targets, str) else ",".join(targets),
            "use_dora": self.peft.use_dora,
            "use_rslora": self.peft.use_rslora,
            "quantization": self.peft.quantization,
            "optim": self.train.optim,
            "report_to": self.train.report_to,
        }

    @property
    def evaluation(self) -> dict[str, Any]:
        """Return the options of `palitune eval`, model and output folder apart."""
        batch_size = self.train.per_device_eval_batch_size
        return {"task": "image_qa", "split": "test", "batch_size": batch_size, **self.asking}

    @property
    def _training(self) -> dict[str, Any]:
        precision = "bfloat16" if self.train.bf16 else "float16" if self.train.fp16 else "auto"
        return training_options(self.train, precision)


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Read everything; options win over the environment, and that over `.env`.

    Args:
        values: of every option.

    Raises:
        ValueError: a file or a key in it is wrong; names both, and what is accepted.
    """
    _read_env(values["env_file"])
    model_id = values["model_id"] or os.environ.get("MODEL_ID")
    train = _read(values["train_config_path"], TrainConfig, "a training")
    if train.bf16 and train.fp16:
        raise ValueError(f"{values['train_config_path']}: bf16 and fp16 are both on; choose one.")
    seed = values["seed"]
    return Settings(
        root=values["root"],
        model_id=model_id,
        dataset=values["dataset"] or os.environ.get("DATASET"),
        dataset_config=values["dataset_config"],
        train=train,
        peft=_read(values["peft_config_path"], PeftConfig, "an adapter"),
        classes=_read_classes(_named_file(values, "vlm_model_config"), model_id),
        collator=_read(_named_file(values, "vlm_collator_config"), Collator, "a collator"),
        onto=values["onto"],
        seed=(train.seed or 0) if seed is None else seed,
        max_samples=values["max_samples"],
    )


def _read_env(path: Path | None) -> None:
    """Put into the environment what a file has and the environment has not: secrets too.

    The steps' processes inherit them from there, so that no command line or file shows them.
    """
    from dotenv import load_dotenv

    file = path or Path(".env")
    if path is not None and not path.is_file():
        raise ValueError(
            f"--env_file {path} does not exist{did_you_mean(path, 'give a file, or leave it out')}"
        )
    if file.is_file():
        content = read_bytes(file)
        try:
            text = io.StringIO(content.decode(), newline=None)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"{file}, line {line} is not UTF-8; save the file as UTF-8."
            ) from error
        load_dotenv(stream=text, override=False, interpolate=False)


def _named_file(values: Mapping[str, Any], name: str) -> Path | None:
    """Return the file of an option, or of the variable with its name in capitals."""
    if values[name] is not None or not (variable := os.environ.get(name.upper())):
        return values[name]  # type: ignore[no-any-return]
    path = Path(variable)
    if not path.is_file():
        how = did_you_mean(path, "give a YAML file")
        raise ValueError(f"{name.upper()} names {path}, which does not exist{how}")
    return path


def _read(path: Path | None, kind: type[T], what: str) -> T:
    """Return a file's settings; without a file, or in an empty one, all are the defaults."""
    if path is None:
        return kind()
    content = read_yaml(path)
    return kind() if content is None else to_settings(content, kind, path, what)


def _read_classes(path: Path | None, model_id: str | None) -> Classes:
    """Return the entry of a model, else the fallback; all entries are checked."""
    if path is None:
        return Classes()
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold an entry for each model id, and one named {FALLBACK} for the others."
        )
    entries = {
        str(name): to_settings(entry, Classes, path, f"the entry '{name}'")
        for name, entry in content.items()
    }
    if model_id in entries:
        return entries[model_id]
    if model_id is not None and FALLBACK not in entries:
        raise ValueError(f"{path} has no entry for {model_id}; add one, or {FALLBACK}.")
    return entries.get(FALLBACK, Classes())


def check_processor(name: str | None, checkpoint: "Checkpoint") -> None:
    """Refuse a processor that is not the checkpoint's: it would feed the model otherwise.

    Raises:
        ValueError: transformers has no class of this name, or the checkpoint names another.
    """
    if name is None or name == "AutoProcessor":
        return
    import transformers

    own = processor_class(checkpoint.base, checkpoint.revision)
    if not isinstance(getattr(transformers, name, None), type) or name != own:
        also = f"{own} or " if own else ""
        raise ValueError(
            f"processor_class {name} is not what {checkpoint.base} is fed by; name {also}"
            "AutoProcessor, or leave it out."
        )
