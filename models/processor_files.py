"""The files by which `AutoProcessor.from_pretrained` finds a checkpoint's processor.

transformers keeps the settings of a processor that are of neither its tokenizer nor its image
processor (LLaVA's patch size and choice of features) in processor_config.json.
"""

from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

from common.files import write_chunks
from common.json_files import read_json, write_json

SETTINGS = "processor_config.json"
_VIDEO_SETTINGS = "video_preprocessor_config.json"


def find_file(place: str, revision: str | None, name: str) -> Path | None:
    """Find a file of a checkpoint, in its folder or the Hub's cache; None where it has none."""
    from transformers.utils import cached_file

    path = cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if path is None else Path(path)


def processor_class(place: str, revision: str | None) -> str | None:
    """Return the processor class that a checkpoint names, in the file where versions put it."""
    for name in (SETTINGS, "preprocessor_config.json", "tokenizer_config.json"):
        path = find_file(place, revision, name)
        content = {} if path is None else read_json(path)
        if content.get("processor_class"):
            return str(content["processor_class"])
    return None


def lacks_sentencepiece(place: str, revision: str | None) -> bool:
    """Return True where a tokenizer can be read by a package alone that is not installed."""
    if find_spec("sentencepiece") is not None:
        return False
    kinds = ("tokenizer.json", "tokenizer.model")
    whole, pieces = (find_file(place, revision, kind) for kind in kinds)
    return whole is None and pieces is not None


def without_sentencepiece(location: str) -> ValueError:
    """Return the error for a tokenizer that needs sentencepiece."""
    return ValueError(
        f"The tokenizer of {location} is tokenizer.model alone, which needs the package "
        "sentencepiece: run `pip install sentencepiece`, or put a tokenizer.json beside it."
    )


def unreadable(place: str, error: Exception) -> ValueError:
    """Return the error for a processor that transformers does not read, with its reason."""
    first_line = str(error).strip().partition("\n")[0].rstrip(".")
    reason = shorten(first_line, 300, placeholder=" …")  # some list every known kind
    return ValueError(
        f"{place} has no processor that can be read ({reason}); beside the weights it needs "
        "tokenizer.json, tokenizer_config.json and processor_config.json (or "
        "preprocessor_config.json)."
    )


def processor_template(place: str, revision: str | None) -> Any:
    """Return the chat template of a checkpoint's processor, in whichever file it lies, or None.

    Raises:
        ValueError: its file cannot be read.
    """
    from transformers.processing_utils import ProcessorMixin

    where = {} if revision is None else {"revision": revision}
    try:
        settings, _ = ProcessorMixin.get_processor_dict(place, **where)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"The chat template of {place} cannot be read ({reason}); correct "
            "chat_template.jinja (or chat_template.json) there, or give one by --chat_template."
        ) from error
    return settings.get("chat_template")


def save_settings(
    folder: Path, place: str, revision: str | None, config: Any, image_processor: Any
) -> None:
    """Write a processor's own settings beside the tokenizer and the image processor.

    Args:
        folder: takes the files.
        place: folder or Hub id that the processor was loaded from.
        revision: of the Hub repository.
        config: the model's, which names the processor where no file does.
        image_processor: the one in force; settings that hold one get this in its place.
    """
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    path = find_file(place, revision, SETTINGS)
    settings = {} if path is None else read_json(path)
    name = processor_class(place, revision)
    if name is None and type(config) in PROCESSOR_MAPPING:
        name = PROCESSOR_MAPPING[type(config)].__name__
    if name is None:
        return  # a model whose code of its own does without
    settings["processor_class"] = name
    if "image_processor" in settings:
        settings["image_processor"] = image_processor.to_dict()
    write_json(folder / SETTINGS, settings)
    if video := find_file(place, revision, _VIDEO_SETTINGS):
        write_chunks(folder / _VIDEO_SETTINGS, [video.read_bytes()])
