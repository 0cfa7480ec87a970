"""The model card of an adapter."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.markup import markdown
from evaluation.training_log import Curves, WatchedScoring, describe
from finetuning.training.curves_chart import CURVES
from models.base import Family
from models.chat import ChatFamily
from models.plain import PlainFamily
from models.run_record import by_task, trained_on
from tasks.registry import get_task

_USAGE = """```python
from peft import PeftModel
from PIL import Image
from transformers import AutoProcessor, {auto_class}

folder = "."  # of this file
base = {auto_class}.from_pretrained({base})
model = PeftModel.from_pretrained(base, folder)
processor = AutoProcessor.from_pretrained(folder)
image = Image.open("image.png").convert("RGB")
{inputs}
output = model.generate(**inputs, max_new_tokens={max_new_tokens}, do_sample=False)
new = output[0, inputs["input_ids"].shape[1] :]
print(processor.decode(new, skip_special_tokens=True).strip())
```"""
_INPUTS = 'inputs = processor(images=image, text={text}, return_tensors="pt")'
_CHAT_INPUTS = """question = {text}
content = [{{"type": "image", "image": image}}, {{"type": "text", "text": question}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)"""


def model_card(
    run: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    num_steps: int,
    family: Family | None = None,
    curves: Curves | None = None,
    watched: Sequence[WatchedScoring] = (),
) -> str:
    """Return the README.md of an adapter: base, data, settings, what was measured, how it is used.

    Args:
        run: its record.
        metrics: metrics.json of each evaluation.
        num_steps: optimiser steps that it was trained for.
        family: of its base; None leaves the code out.
        curves: of its training, which curves.png shows; None leaves the image out.
        watched: the lines of its watched.jsonl.
    """
    settings, base = run["settings"], Path(run["base_model"])
    names = trained_on(run)
    trained = [
        f"{data['num_examples']} examples of {f'{markdown(name)} ' if len(names) > 1 else ''}"
        f"split {markdown(data['split'])}"
        for name, data in by_task(run, "train_data").items()
    ]
    rows = [
        f"| {markdown(m['task'])} | {markdown(m['split'])} | {m['num_examples']} | "
        f"{markdown(name)} | {_figure(value)} | {_interval(m) if name == m['metric'] else ''} |"
        for m in metrics
        for name, value in m["metrics"].items()
    ]
    shown = ("quantization", "lora_rank", "lora_alpha", "learning_rate", "seed")
    title = f"{base.name if base.is_absolute() else base} fine-tuned on {' and '.join(names)}"
    lines = [
        "---",
        _metadata(run, metrics, title),
        "---",
        "",
        f"# {markdown(title)}",
        "",
        f"LoRA adapter trained on {' and '.join(trained)}. All settings and versions are in "
        "`run.json`; `--config run.json` repeats the run.",
        "",
        "| Setting | Value |",
        "| --- | --- |",
        f"| steps | {num_steps} |",
        *[f"| {name} | {markdown(settings[name])} |" for name in shown],
        "",
        "## Measured",
        "",
        "| Task | Split | Examples | Metric | Value | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        *[line for entry in metrics for line in _decoding(entry)],
        *(_training(curves, watched) if curves and curves.loss else []),
    ]
    usage = None if family is None else _usage(run, family)
    return "\n".join([*lines, *(["## Use", "", usage, ""] if usage else [])])


def _metadata(run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], title: str) -> str:
    """The header that the Hub reads; https://huggingface.co/docs/hub/model-cards."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-text-to-text",
            dataset_type=_line(entry["task"]),
            dataset_name=_line(entry["task"]),
            dataset_split=_line(entry["split"]),
            metric_type=_line(entry["metric"]),
            metric_value=entry["metrics"][entry["metric"]],
            metric_args=_measured_how(entry),
        )
        for entry in metrics
        if entry["metrics"][entry["metric"]] is not None
    ]
    base, hub_repo = run["base_model"], run["settings"].get("hub_repo")
    data = ModelCardData(
        # the Hub takes an id alone; the path of a folder would mean nothing elsewhere
        base_model=None if Path(base).is_absolute() else _line(str(Path(base))),
        datasets=[hub_repo] if hub_repo else None,
        library_name="peft",
        pipeline_tag="image-text-to-text",
        tags=["lora", "vision-language", "palitune"],
        model_name=_line(title) if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml()).rstrip()


def _line(text: str) -> str:
    """A text on one line: none of its lines ends the header."""
    return " ".join(text.split())


def _interval_of(entry: Mapping[str, Any]) -> Sequence[float] | None:
    return (entry.get("uncertainty") or {}).get("interval_95")


def _measured_how(entry: Mapping[str, Any]) -> dict[str, Any]:
    interval = _interval_of(entry)
    found = {"num_examples": entry["num_examples"]}
    return found | ({"interval_95": list(interval)} if interval else {})


def _decoding(entry: Mapping[str, Any]) -> list[str]:
    """The prompt and the decoding that a score was measured with."""
    origin = entry.get("provenance") or {}
    if "prompt_template" not in origin:
        return []
    settings = ", ".join(f"{name} {value}" for name, value in origin["decoding"].items())
    return [
        f"{markdown(entry['task'])} was asked by the prompt: {markdown(origin['prompt_template'])}",
        "",
        f"Decoding: {markdown(settings)}.",
        "",
    ]


def _training(curves: Curves, watched: Sequence[WatchedScoring]) -> list[str]:
    """The curves, and how the answer to one example changed."""
    lines = ["## Training", "", f"![{markdown(describe(curves))}]({CURVES})", ""]
    if len(watched) < 2:
        return lines
    first = watched[0].answers[0]
    answers = [
        f"{'at the end' if scoring.is_final else f'step {scoring.step}'} "
        f"“{markdown(answer.prediction)}”"
        for scoring in watched
        for answer in scoring.answers
        if (scoring.task, scoring.split, answer.id) == (watched[0].task, watched[0].split, first.id)
    ]
    reference = f"; the reference is “{markdown(first.references[0])}”" if first.references else ""
    asked = f"“{markdown(first.question)}” of example {markdown(first.id)}"
    return [*lines, f"Answers to {asked}: {answers[0]}, {answers[-1]}{reference}.", ""]


def _usage(run: Mapping[str, Any], family: Family) -> str | None:
    """Code that answers one question; None of a family whose prompt it could not write."""
    task = get_task(trained_on(run)[0])
    template = run["settings"].get("prompt_template") or task.prompt(family.name)
    prompt = template.replace("{question}", "What is in the image?")
    if isinstance(family, PlainFamily) and family.image_mark is not None:
        inputs = _INPUTS.format(text=json.dumps(f"{family.image_mark}{prompt}"))
    elif isinstance(family, ChatFamily):
        inputs = "# processors that also take videos need torchvision\n"
        inputs += _CHAT_INPUTS.format(text=json.dumps(prompt))
    else:
        return None
    base = Path(run["base_model"])
    return _USAGE.format(
        auto_class=family.auto_class,
        base=json.dumps("the/folder/of/the/base" if base.is_absolute() else str(base)),
        inputs=inputs,
        max_new_tokens=run["settings"].get("max_new_tokens") or task.max_new_tokens,
    )


def _interval(entry: Mapping[str, Any]) -> str:
    interval = _interval_of(entry)
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


def _figure(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"
