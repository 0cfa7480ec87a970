"""The provenance of a score: rule, data, model, settings and versions, as in metrics.json."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.files import file_hash
from evaluation.image_states import ImageStates
from evaluation.own_code import KEY, used_code
from models.registry import find_family
from models.settings import Decoding
from tasks.base import Example
from tasks.faults import summary
from tasks.overlap import overlap_notes
from tasks.report import Report

if TYPE_CHECKING:
    from evaluation.prediction import Predictor

_PACKAGES = (
    *("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "pillow"),
    *("numpy", "pycocoevalcap", "Levenshtein", "sacrebleu", "rouge-score"),
)


def describe_data(split: str, examples: Sequence[Example]) -> dict[str, Any]:
    """Describe a split: its size, and a hash over ids, texts, references and placed images.

    Of an image the name counts, and the size of its file in bytes; none is opened.
    """
    digest, states = hashlib.sha256(), ImageStates()
    for example in examples:
        texts = [[t.text, *t.places] if t.places else t.text for t in example.turns]
        images = [states.content(image) for image in example.images]
        row = [example.example_id, texts, example.references, images]
        digest.update(msgspec.json.encode(row))
    entry = {"split": split, "num_examples": len(examples), "fingerprint": digest.hexdigest()[:16]}
    skipped = getattr(examples, "skipped", ())
    return entry | ({"skipped": summary(skipped)} if skipped else {})


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that has a say in a number."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _weights(adapter: Path) -> Path:
    """The file with an adapter's weights; old ones are pickled."""
    path = adapter / "adapter_model.safetensors"
    return path if path.is_file() else adapter / "adapter_model.bin"


def of_file(path: Path) -> dict[str, Any]:
    """Return the provenance of predictions in a file, of whose model nothing is known."""
    return {"predictions_file": path.name, "predictions_sha256": file_hash(path)}


def of_model(
    predictor: "Predictor",
    *,
    base_model: str,
    base_revision: str | None,
    adapter: Path | None,
    quantization: str,
    trained_on: Sequence[str],
) -> dict[str, Any]:
    """Return the provenance of predictions that a model made.

    Args:
        predictor: a `evaluation.prediction.Predictor`.
        base_model: folder or Hub id.
        base_revision: the commit on the Hub.
        adapter: folder of the adapter on it.
        quantization: how the language model was held.
        trained_on: the tasks that the adapter was trained on.
    """
    prompter = predictor.prompter
    return {
        "base_model": base_model,
        "base_revision": base_revision,
        "adapter": str(adapter) if adapter else None,
        "adapter_sha256": file_hash(_weights(adapter)) if adapter else None,
        "quantization": quantization,
        "dtype": str(predictor.model.dtype).removeprefix("torch."),
        "family": prompter.family.name,
        "chat_template": getattr(prompter.family, "template", None),
        "pictures": _image_settings(prompter.family.image_processor),
        "trained_on": list(trained_on),
        "prompt_template": prompter.template,
        "max_length": prompter.max_length,
        "truncate": prompter.truncate,
        "system_message": prompter.system_message,
        "decoding": _decoding(predictor.decoding),
    }


def named_model(origin: Mapping[str, Any]) -> str:
    """Return in a few words what answered; empty where a provenance does not say it.

    Args:
        origin: the provenance in a metrics.json.
    """
    adapter, base = origin.get("adapter"), origin.get("base_model")
    if not base:
        file = origin.get("predictions_file")
        return f"answers from {file}" if file else ""
    if adapter:
        return f"{_short(base)} + {_short(adapter, levels=2)}"
    return f"{'fine-tuned' if origin.get('trained_on') else 'base'} {_short(base)}"


def _short(place: str, levels: int = 1) -> str:
    """Shorten a path from the root to its last levels; a relative one, or a Hub id, stays.

    What was brought here from the Hub has its id again.
    """
    path = Path(place)
    if cached := [part for part in path.parts if part.startswith("models--")]:
        return cached[-1].removeprefix("models--").replace("--", "/")
    if path.is_relative_to(Path.cwd()) and levels > 1:
        return str(path.relative_to(Path.cwd()))
    return "/".join(path.parts[1:][-levels:]) if path.is_absolute() else place


def _image_settings(processor: Any) -> dict[str, Any]:
    """To what size images are brought, as far as their processor says."""
    names = ("size", "square_side", "max_pixels", "min_patches", "max_patches")
    found = {name: getattr(processor, name, None) for name in names}
    size = found["size"]
    found["size"] = {k: v for k, v in dict(size or {}).items() if v is not None}
    return {name: value for name, value in found.items() if value}


def _decoding(decoding: Decoding) -> dict[str, Any]:
    """The settings that had a say: those of drawing do where answers are drawn."""
    settings = asdict(decoding)
    if not decoding.do_sample:
        del settings["temperature"], settings["top_p"], settings["seed"]
    return settings


def with_provenance(
    report: Report, seed: int, origin: Mapping[str, Any], training: Mapping[str, Any] | None = None
) -> Report:
    """Add the entry of metrics.json, and a note where training may have seen the images.

    Args:
        report: the predictions, scored or not.
        seed: what chose the examples where they are a subset.
        origin: where the predictions are from, by `of_file` or `of_model`.
        training: what the training cost that just made the model.
    """
    family = find_family(origin["family"]) if "family" in origin else None
    own_code = used_code([report.task], family)
    entry = {
        "rule": report.task.rule,
        "rule_source": report.task.rule_source,
        "data": describe_data(report.split, report.examples),
        "seed": seed,
        **origin,
        **({KEY: own_code} if own_code else {}),
        "versions": versions(),
    }
    notes = overlap_notes(report.task.name, report.split, origin.get("trained_on", ()))
    return replace(
        report,
        notes=(*report.notes, *notes),
        additions={
            **report.additions,
            **({"training": training} if training else {}),
            "provenance": entry,
        },
    )
