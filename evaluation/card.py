"""Parts of the cards of trained and of merged models: the Hub's header, scores, code that runs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.markup import markdown
from evaluation.prompt_template import filled
from evaluation.prompting import make_prompter
from models.base import Family
from models.chat import ChatFamily
from models.checkpoint import TINY
from models.plain import PlainFamily
from models.settings import GENERATION, Decoding
from tasks.base import Task

_ADAPTER = """from peft import PeftModel
from PIL import Image
from transformers import AutoProcessor, GenerationConfig, {auto_class}
{imports}
folder = "."  # of this file
model = {auto_class}.from_pretrained({base})
{stops}
model = PeftModel.from_pretrained(model, folder)
"""
_TINY = "from models.checkpoint import TINY  # the model inside PaliTune, which must be installed\n"
_FULL_MODEL = """from PIL import Image
from transformers import AutoProcessor, GenerationConfig, {auto_class}

folder = "."  # of this file
model = {auto_class}.from_pretrained(folder)
{stops}
"""
# as models.loading has it: scores are measured without a checkpoint's own penalties
_STOPS = """ends = ("eos_token_id", "pad_token_id")  # all that counts of generation_config.json
ends = {name: getattr(model.generation_config, name) for name in ends}
model.generation_config = GenerationConfig(**ends)"""
_USAGE = """processor = AutoProcessor.from_pretrained(folder)
image = Image.open("image.png").convert("RGB")
{inputs}
output = model.generate(**inputs, {decoding})
new = output[0, inputs["input_ids"].shape[1] :]
print(processor.decode(new, skip_special_tokens=True).strip())"""
_INPUTS = 'inputs = processor(images=image, text={text}, return_tensors="pt")'
_CHAT_INPUTS = """# processors that also take videos need torchvision
question = {text}
content = [{{"type": "image", "image": image}}, {{"type": "text", "text": question}}]
inputs = processor.apply_chat_template(
    [{system}{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)"""
_SYSTEM = '{{"role": "system", "content": [{{"type": "text", "text": {text}}}]}}, '
_LICENCE_KEYS = ("license", "license_name", "license_link")


def header(
    *,
    title: str,
    base: str,
    revision: str | None,
    relation: str,
    tags: Sequence[str],
    results: Sequence[Any],
    more_bases: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> str:
    """Return the lines of YAML that the Hub reads; https://huggingface.co/docs/hub/model-cards.

    Args:
        title: name of the model.
        base: folder or Hub id of its base. A folder is left out: elsewhere it means nothing.
        revision: commit of the base on the Hub; None of a folder.
        relation: to the base, as the Hub calls it: adapter, merge, finetune.
        tags: beside those of every model.
        results: what `result` gave, one for each score.
        more_bases: Hub ids of what else it was made of.
        datasets: Hub ids of the data.
    """
    from huggingface_hub import ModelCardData

    bases = [one_line(str(Path(name))) for name in ([base] if revision else []) + [*more_bases]]
    data = ModelCardData(
        base_model=bases[0] if len(bases) == 1 else bases or None,
        base_model_relation=relation if bases else None,
        datasets=list(datasets) or None,
        library_name="peft" if "lora" in tags else "transformers",
        pipeline_tag="image-text-to-text",
        tags=[*tags, "vision-language", "palitune"],
        model_name=one_line(title) if results else None,
        eval_results=list(results) or None,
        **_licence(base, revision),
    )
    return str(data.to_yaml()).rstrip()


def result(
    *,
    task: str,
    split: str,
    metric: str,
    value: float,
    num_examples: int,
    interval_95: Sequence[float] | None,
) -> Any:
    """Return a score as an entry of `model-index`."""
    from huggingface_hub import EvalResult

    found = {"num_examples": num_examples}
    return EvalResult(
        task_type="image-text-to-text",
        dataset_type=one_line(task),
        dataset_name=one_line(task),
        dataset_split=one_line(split),
        metric_type=one_line(metric),
        metric_value=value,
        metric_args=found | ({"interval_95": list(interval_95)} if interval_95 else {}),
    )


def asked_as(task: Task, family: Family, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings of prompt and decoding; the task's own where it gives none."""
    prompter = make_prompter(task, family, settings.get("prompt_template"))
    own = {"max_new_tokens": task.max_new_tokens, "num_beams": task.num_beams}
    given = {name: value for name, value in settings.items() if value is not None}
    return own | given | {"prompt_template": prompter.template}


def usage(
    family: Family,
    base: str,
    revision: str | None,
    asked: Mapping[str, Any],
    *,
    is_adapter: bool,
    question: str = "What is in the image?",
) -> str | None:
    """Return code that answers one question; None of a family whose prompt it could not write.

    Args:
        family: of the base.
        base: folder, Hub id or `tiny`, as it was named.
        revision: commit of the base on the Hub; None of a folder.
        asked: settings of prompt and decoding; `prompt_template` and `max_new_tokens` are there.
        is_adapter: whether the weights go onto the base, or are a full model.
        question: the one that is asked.
    """
    prompt = filled(asked["prompt_template"], question)
    if isinstance(family, PlainFamily) and family.image_mark is not None:
        inputs = _INPUTS.format(text=_literal(f"{family.image_mark}{prompt}"))
    elif isinstance(family, ChatFamily):
        message = asked.get("system_message")
        system = _SYSTEM.format(text=_literal(message)) if message else ""
        inputs = _CHAT_INPUTS.format(text=_literal(prompt), system=system)
    else:
        return None
    is_tiny = base in ("tiny", str(TINY))
    code = ((_ADAPTER if is_adapter else _FULL_MODEL) + _USAGE).format(
        auto_class=family.auto_class,
        imports=_TINY if is_tiny else "",
        base="TINY" if is_tiny else _literal(base if revision else _place(base)),
        inputs=inputs,
        stops=_STOPS,
        decoding=_decoding(asked),
    )
    return f"```python\n{code}\n```"


def _decoding(asked: Mapping[str, Any]) -> str:
    """Return the arguments of `generate` that differ from its defaults, and the greedy one."""
    found = {name: asked[name] for name in GENERATION if asked.get(name) is not None}
    settings = Decoding(**found)
    shown: dict[str, float] = {
        "max_new_tokens": settings.max_new_tokens,
        "do_sample": settings.do_sample,
    }
    if settings.min_new_tokens:
        shown["min_new_tokens"] = settings.min_new_tokens
    if settings.num_beams > 1:
        shown["num_beams"] = settings.num_beams
    drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    shown |= drawn if settings.do_sample else {}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _literal(text: str) -> str:
    """Return a text as Python has it; its letters stay as they are, of every script."""
    return json.dumps(text, ensure_ascii=False)


def _place(folder: str) -> str:
    """Return a folder as it was named, or its name alone where that tells a place on this machine.

    The card is made to be passed on.
    """
    path = Path(folder).expanduser()
    return f"path/to/{path.name}" if path.is_absolute() else folder


def one_line(text: str) -> str:
    """Return a text on one line: none of its lines ends the header."""
    return " ".join(text.split())


def score_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table of scores, under its heading; a sentence where there is none.

    Args:
        rows: each what `result` takes; a value may be None.
    """
    lines = [
        f"| {markdown(row['task'])} | {markdown(row['split'])} | {row['num_examples']} | "
        f"{markdown(row['metric'])} | {_figure(row['value'])} | "
        f"{_interval(row['interval_95'])} |"
        for row in rows
    ]
    head = [
        "| Task | Split | Examples | Metric | Value | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return ["## Measured", "", *([*head, *lines] if lines else ["Nothing was scored."]), ""]


def _figure(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"


def _interval(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""


def _licence(base: str, revision: str | None) -> dict[str, Any]:
    """Return what the base's own card says of its licence; nothing where that cannot be read."""
    from huggingface_hub import hf_hub_download, metadata_load
    from yaml import YAMLError

    try:
        path = (
            hf_hub_download(base, "README.md", revision=revision, etag_timeout=3)
            if revision
            else Path(base).expanduser() / "README.md"
        )
        found: Mapping[str, Any] = metadata_load(path) or {}
    except (OSError, ValueError, YAMLError):  # a card without licence is better than no card
        return {}
    texts = {key: found[key] for key in _LICENCE_KEYS if isinstance(found.get(key), str)}
    if not texts.get("license_link", "https://").startswith("https://"):
        del texts["license_link"]  # a file of the base's own repository
    return {key: one_line(text) for key, text in texts.items()}
