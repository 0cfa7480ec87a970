"""The source files of the checkout, and what they import."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.registry import task_names
from tests.helpers import REPOSITORY

# From the top; a file may import from its own package and from the floors below.
FLOORS = (
    ("palitune",),
    ("experiments",),
    ("finetuning", "merging", "serving"),
    ("evaluation",),
    ("tasks", "models"),
    ("synthetic", "common"),
)


LAYERS = tuple(package for floor in FLOORS for package in floor)


# The doors: each names one command of `palitune`, and the registry of scripts alone names them.
DOORS = ("eval.py", "merge_vlm.py", *(f"finetuning/{name}.py" for name in task_names()))


# The only dynamic imports: registry -> the modules that it loads by name.
REGISTRIES = {
    "palitune/scripts.py": tuple(f"finetuning.{name}" for name in task_names()),
    "common/user_code.py": (),  # the user's own
}


# They make the embedded model out of the embedded tasks.
TINY_SCRIPTS = "models/tiny/"


HEAVY = (
    *("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "wandb"),
    *("fastapi", "gradio", "uvicorn"),
)


# imported inside a command's body; pretrain.py is a script
MAY_BE_HEAVY = {
    "evaluation/prediction.py",
    "finetuning/training/adapter_probe.py",
    "finetuning/training/arguments.py",
    "finetuning/training/compiled.py",
    "finetuning/training/data_wait.py",
    "finetuning/training/examples.py",
    "finetuning/training/following.py",
    "finetuning/training/gradients.py",
    "finetuning/training/loss.py",
    "finetuning/training/memory.py",
    "finetuning/training/number_watch.py",
    "finetuning/training/short_walks.py",
    "finetuning/training/operations.py",
    "finetuning/training/step_cost.py",
    "finetuning/training/stopping.py",
    "finetuning/training/probe_tools.py",
    "finetuning/training/probes.py",
    "finetuning/training/progress.py",
    "finetuning/training/trainer.py",
    "merging/algebra/adapters.py",
    "merging/algebra/base.py",
    "merging/algebra/core.py",
    "merging/algebra/dense_figures.py",
    "merging/algebra/export.py",
    "merging/algebra/factorise.py",
    "merging/algebra/full_model.py",
    "merging/algebra/low_rank.py",
    "merging/algebra/merge.py",
    "merging/algebra/methods.py",
    "merging/algebra/module.py",
    "merging/algebra/reader.py",
    "merging/algebra/rounding.py",
    "merging/algebra/stored_tensors.py",
    "merging/algebra/threads.py",
    "merging/algebra/thresholds.py",
    "merging/algebra/writer.py",
    "merging/trial.py",
    "models/adapter_loading.py",
    "models/generation.py",
    "models/decoder_layers.py",
    "models/pixels.py",
    "models/tiny/pretrain.py",
    "serving/chat_api.py",
    "serving/page.py",
    "serving/server.py",
}


SCRIPTS = task_names()


TRAINING_OPTIONS = """
    model_path data_root output_dir use_wandb max_train_samples max_eval_samples num_epochs
    prompt_template answer_sampling max_length truncate quantization dtype loss_reduction
    eval_steps wandb_project report_to config batch_size learning_rate gradient_accumulation_steps
    lora_rank lora_alpha lora_dropout warmup_ratio weight_decay optim save_steps logging_steps
    num_workers seed device resume overwrite hub_repo hub_config hub_split hub_columns revision
    model_type chat_template image_size min_pixels max_pixels trust_remote_code lora_target_modules
    lora_vision use_dora use_rslora lora_init_from max_grad_norm max_new_tokens min_new_tokens
    num_beams do_sample temperature top_p eval_epochs epochs skip_training skip_evaluation
    num_viz_samples clip_model
"""


EVALUATION_OPTIONS = """
    task model_path base_model revision data_root split max_eval_samples batch_size num_beams
    max_new_tokens output_dir csv image_column instruction_column response_column csv_lenient
    num_viz_samples model_type chat_template do_sample
"""


MERGE_OPTIONS = """
    base_model model_a model_b adapter output mode density weights lambda seed rank export
    save_dtype missing normalize trim_scope onto evaluate data_root max_eval_samples sweep dry_run
    allow_base_mismatch
"""


def source_files(*places: str) -> Iterator[Path]:
    for place in places:
        yield from sorted((REPOSITORY / place).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Top names of what these nodes import; a relative import would show as an empty one."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0] if not node.level else "")
    return names


def imports_anywhere(path: Path) -> set[str]:
    return imported(ast.walk(ast.parse(path.read_text())))


def imports_at_module_level(path: Path) -> set[str]:
    """What importing the file imports: function bodies and `if TYPE_CHECKING` left out."""

    def walk(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
        for node in nodes:
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types:
                continue
            yield node
            yield from walk(ast.iter_child_nodes(node))

    return imported(walk(ast.parse(path.read_text()).body))


def imported_modules(path: Path) -> set[str]:
    """Dotted names of the modules of ours that a file imports, in function bodies too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = REPOSITORY / node.module.replace(".", "/")
            inner = {a.name for a in node.names if (folder / f"{a.name}.py").is_file()}
            names |= {f"{node.module}.{name}" for name in inner}
            if len(inner) < len(node.names):
                names.add(node.module)
    names |= set(REGISTRIES.get(relative(path), ()))
    return {name for name in names if name.partition(".")[0] in LAYERS}


def level(package: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if package in floor)


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """The names that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(arrows.get(start, ()))
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += arrows.get(name, ())
        return seen

    return [name for name in arrows if name in reached(name)]


def importers(module: str) -> set[str]:
    """The files that import a module of ours, by its dotted name."""
    found = set()
    for path in source_files(*LAYERS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                found.add(relative(path))
    return found


CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def documented(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each public name of a file with its docstring, the module's own too."""

    def walk(node: ast.AST, place: str) -> Iterator[tuple[str, str | None]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                if child.name.startswith("_") and child.name != "__call__":
                    continue
                yield f"{place}:{child.name}", ast.get_docstring(child)
                if isinstance(child, ast.ClassDef):
                    yield from walk(child, f"{place}:{child.name}")

    tree = ast.parse(path.read_text())
    yield relative(path), ast.get_docstring(tree)
    yield from walk(tree, relative(path))
