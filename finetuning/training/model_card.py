"""The model card of an adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.markup import markdown, yaml_text
from models.run_record import by_task, trained_on


def model_card(run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return the README.md of an adapter: base, data, settings and what was measured."""
    settings, base = run["settings"], Path(run["base_model"])
    names = trained_on(run)
    trained = [
        f"{data['num_examples']} examples of {f'{markdown(name)} ' if len(names) > 1 else ''}"
        f"split {markdown(data['split'])}"
        for name, data in by_task(run, "train_data").items()
    ]
    rows = [
        f"| {markdown(m['task'])} | {markdown(m['split'])} | {m['num_examples']} | "
        f"{markdown(name)} | {_figure(value)} |"
        for m in metrics
        for name, value in m["metrics"].items()
    ]
    shown = ("quantization", "lora_rank", "lora_alpha", "learning_rate", "num_epochs", "seed")
    lines = [
        "---",
        # the Hub takes an id alone; the path of a folder would mean nothing elsewhere
        *([] if base.is_absolute() else [f"base_model: {yaml_text(str(base))}"]),
        "library_name: peft",
        "tags: [lora, vision-language, palitune]",
        "---",
        "",
        f"# {markdown(base.name if base.is_absolute() else base)} fine-tuned on "
        f"{' and '.join(map(markdown, names))}",
        "",
        f"LoRA adapter trained on {' and '.join(trained)}. All settings and versions are in "
        "`run.json`; `--config run.json` repeats the run.",
        "",
        "| Setting | Value |",
        "| --- | --- |",
        *[f"| {name} | {markdown(settings[name])} |" for name in shown],
        "",
        "## Measured",
        "",
        "| Task | Split | Examples | Metric | Value |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"
