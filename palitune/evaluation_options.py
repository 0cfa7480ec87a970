"""The options of an evaluation, by the heading under which `--help` shows them."""

from pathlib import Path

import click

from finetuning.training.recipe import Recipe
from models.settings import GENERATION
from palitune import options
from palitune.command import Option, count_option


def file_options() -> list[click.Parameter]:
    """Make the options that name a file of predictions."""
    group = "Predictions"
    return [
        Option(
            ["--predictions"],
            group=group,
            type=click.Path(path_type=Path),
            help="Score this file, as it is written, in place of a model: results in the "
            "leaderboard's format, or a predictions.jsonl. No images are needed.",
        ),
        Option(
            ["--allow_partial"],
            group=group,
            is_flag=True,
            help="Score the examples that the file of --predictions and the split share.",
        ),
        Option(
            ["--submission"],
            group=group,
            is_flag=True,
            help="Write the leaderboard's results file too [always where answers are withheld].",
        ),
    ]


def metric_options() -> list[click.Parameter]:
    """Make the options that add figures and pictures to the official score."""
    group = "Metrics"
    return [
        Option(
            ["--lenient"],
            group=group,
            is_flag=True,
            help="Add common unofficial variants of the metric, under separate names.",
        ),
        Option(
            ["--text_metrics"],
            group=group,
            is_flag=True,
            help="Add exact match, sacreBLEU, ROUGE and the COCO family, and token statistics.",
        ),
        Option(
            ["--baselines"],
            group=group,
            is_flag=True,
            help="Score beside the model: the most frequent answer, the model shown other "
            "examples' images and grey ones, and an adapter's base alone; beside a file the first.",
        ),
        *options.recipe_options(Recipe(), ("clip_model", "images_budget")),
        count_option(
            "--num_viz_samples",
            group,
            "Draw this many of the scored answers as images.",
            default=0,
            minimum=0,
        ),
    ]


def loading_options() -> list[click.Parameter]:
    """Make the options that name a model and how it is loaded."""
    return [
        options.model_option(),
        Option(
            ["--base_model"],
            group="Model",
            help="Take this base of the adapter, where the recorded one has moved.",
        ),
        Option(
            ["--allow_base_mismatch"],
            group="Model",
            is_flag=True,
            help="Warn where the base has other weights than the adapter was trained on.",
        ),
        Option(
            ["--lora_path"], group="Model", help="Put this adapter on the model of --model_path."
        ),
        Option(
            ["--without_adapter"],
            group="Model",
            is_flag=True,
            help="Score an adapter's base alone, fed and asked as the adapter is.",
        ),
        Option(
            ["--run"],
            group="Model",
            help="Take the run of this name in --runs_dir, in place of --model_path.",
        ),
        Option(
            ["--runs_dir"],
            group="Model",
            type=click.Path(path_type=Path),
            help="Look for the run of --run in this folder and in its folders [default: runs, "
            "where train writes, and results, where ablate does].",
        ),
        options.revision_option(),
        *options.family_options(),
        options.quantization_option("an adapter's"),
        options.dtype_option("an adapter's"),
        options.device_option(),
    ]


def example_options() -> list[click.Parameter]:
    """Make the options that choose the examples."""
    return [
        Option(["--split"], group="Data", help="Name of the split to score [default: the task's]."),
        count_option(
            "--max_eval_samples", "Data", "Score a seeded subset of this size [default: all]."
        ),
        Option(
            ["--ids"],
            group="Data",
            help="Score these examples alone: ids with commas between, or a file with one a line.",
        ),
        Option(
            ["--seed"],
            group="Data",
            default=0,
            show_default=True,
            help="Draw the subset of --max_eval_samples, and answers, by this seed.",
        ),
        count_option(
            "--num_workers",
            "Data",
            "Read images in this many processes; auto takes one a free processor. With 0, auto's "
            "choice for few images, threads read them between the batches.",
            default="auto",
            minimum=0,
        ),
        *options.recipe_options(Recipe(), ("on_bad_image",)),
    ]


def generation_options() -> list[click.Parameter]:
    """Make the options that say how the model is asked and answers."""
    group = "Generation"
    return [
        count_option(
            "--batch_size",
            group,
            "Answer this many examples at once; the answers do not depend on it, and auto takes "
            "as many as memory bears.",
            default="auto",
        ),
        *options.recipe_options(None, GENERATION),
        Option(
            ["--prompt_template"],
            group=group,
            help="Use this prompt; {question} stands for the question [default: the run's, else "
            "the task's].",
        ),
        Option(
            ["--system_message"],
            group=group,
            help="Send this system message before the question [default: the run's].",
        ),
        count_option(
            "--max_length",
            group,
            "Allow this many text tokens a prompt [default: the run's, else the task's].",
            minimum=8,
        ),
        Option(
            ["--truncate"],
            group=group,
            is_flag=True,
            help="Cut prompts that are over --max_length.",
        ),
    ]
