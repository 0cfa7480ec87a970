"""Where a model lies: Hub id, folder, adapter folder or `tiny` -> Checkpoint; loads nothing."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from common.json_files import read_json
from common.near_paths import near_path
from models.base import Family
from models.fingerprint import fingerprint, same_weights
from models.hub_files import hub_adapter, hub_config
from models.quantization import stored_quantization
from models.registry import check_native, family_for, family_named
from models.remote_code import check_remote_code, code_files
from models.run_record import RUN_FILE, read_run
from models.settings import FamilyOptions

logger = logging.getLogger(__name__)

TINY = Path(__file__).parent / "tiny"


def typed_name(model: str | Path) -> str:
    """Return a model as one would type it here: `tiny`, or a folder below this one without it."""
    path, here = Path(model), Path.cwd()
    if path == TINY.resolve():
        return "tiny"
    short = path.relative_to(here) if path.is_relative_to(here) else path
    return str(model if str(short) == "tiny" else short)  # a folder of that name is not the word


_ADAPTER_FOLDERS = ("lora_adapter", "lora_weights", "final")  # where other trainers put it


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The place of a model, resolved without loading it.

    Attributes:
        base: folder or Hub id of the full model.
        revision: of the Hub repository, None for a folder.
        adapter: folder of the PEFT adapter on top, None for the bare model.
        model_type: the base's `config.model_type`.
        stored_in: precision in which the base's weights are stored where they are quantised.
        fingerprint: of the base's weights, None where they do not lie in a local folder.
        family: what feeds it.
        options: what the user said about it.
    """

    base: str
    revision: str | None
    adapter: Path | None
    model_type: str
    fingerprint: str | None
    stored_in: str | None
    family: type[Family]
    options: FamilyOptions


def resolve(
    model_path: str,
    base_model: str | None = None,
    revision: str | None = None,
    *,
    model_type: str | None = None,
    options: FamilyOptions | None = None,
    allow_base_mismatch: bool = False,
) -> Checkpoint:
    """Find out what a name stands for and that it can be used, before anything heavy.

    Args:
        model_path: folder, Hub id or `tiny`; a full model or an adapter.
        base_model: an adapter's base, where it has moved.
        revision: of the Hub repository: that of `model_path`, or of the base where `model_path` is
            an adapter here or the base is named.
        model_type: family to feed it by, in place of the one of its `config.model_type`; of an
            adapter, that of its training where None.
        options: passed on to the family.
        allow_base_mismatch: warn of other weights than the adapter's training had.

    Raises:
        ValueError: nothing there, not a model, an unknown kind, an adapter of another base, or
            the Hub cannot be reached.
    """
    options = options or FamilyOptions()
    folder = adapter_folder(model_path, revision if base_model is None else None)
    if folder is None:
        if base_model is not None:
            raise ValueError(
                f"--base_model goes with an adapter, and {model_path} is none (it has no "
                "adapter_config.json); leave --base_model out."
            )
        place = _folder(model_path)
        model_type = model_type or _said_type({} if place is None else read_run(place))
        return _resolve_base(model_path, revision, model_type, options, revision)
    if _folder(model_path) is None and base_model is None:
        revision = None  # it was the adapter's
    said = read_json(folder / "adapter_config.json")
    trained_on = str(said.get("base_model_name_or_path") or "")
    if base_model is None and not trained_on:
        raise ValueError(f"Adapter {folder} does not name its base model; pass --base_model.")
    if base_model is None and os.path.isabs(trained_on) and not os.path.isdir(trained_on):
        raise ValueError(
            f"Adapter {folder} was trained on {trained_on}, which is no longer there; pass "
            "--base_model with the folder of that model."
        )
    run = read_run(run_folder_of(folder))
    # PEFT leaves its own entry empty; another base has other revisions
    own_revision = run.get("base_revision") if base_model in (None, trained_on) else None
    base = _resolve_base(
        base_model or trained_on,
        revision or own_revision or said.get("revision"),
        model_type or _said_type(run),
        options,
        revision,
    )
    _check_processor(folder, options.trust_remote_code)
    _check_same_base(folder, run, trained_on, base, allow_base_mismatch)
    return replace(base, adapter=folder)


def _check_processor(adapter: Path, is_trusted: bool) -> None:
    """Refuse code of other repositories in the processor beside an adapter, which is preferred."""
    own = [{}, *code_files(str(adapter), run_folder_of(adapter), None)]
    check_remote_code(own, str(adapter), is_local=True, revision=None, is_trusted=is_trusted)


def _said_type(run: Mapping[str, Any]) -> str | None:
    """The family that a run was told to take."""
    settings: Mapping[str, Any] = run.get("settings", {})
    return settings.get("model_type")


def adapter_folder(name: str, revision: str | None = None) -> Path | None:
    """Find the folder of an adapter, brought here from the Hub; None where the name is of none.

    Args:
        name: folder or Hub id.
        revision: of the Hub repository.

    Raises:
        ValueError: there is no such folder, or the Hub cannot be reached.
    """
    folder = _folder(name)
    if folder is None:
        return hub_adapter(name, revision)
    return folder if (folder / "adapter_config.json").is_file() else None


def run_folder_of(adapter: Path) -> Path:
    """Return the folder of the run that an adapter is of: of a checkpoint the one above."""
    place = adapter.absolute()
    return place.parents[1] if place.parent.name == "checkpoints" else place


def _folder(name: str) -> Path | None:
    if name == "tiny":
        return TINY
    path = Path(name).expanduser()
    if path.is_dir():
        files = ("config.json", "adapter_config.json")
        nested = [path / inner for inner in _ADAPTER_FOLDERS if (path / inner / files[1]).is_file()]
        has_model = any((path / file).is_file() for file in files)
        return nested[0] if nested and not has_model else path
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        near = near_path(name) or next(iter(get_close_matches(name, ["tiny"])), None)
        if near and not path.exists():
            raise ValueError(f"{name} does not exist; did you mean {near}?")
        raise ValueError(
            f"No model at '{name}': it is not a folder. Accepted are a folder with a model or an "
            "adapter, a Hub id such as google/paligemma-3b-pt-448, or tiny."
        )
    return None


def read_config(
    name: str, revision: str | None = None
) -> tuple[dict[str, Any], Path | None, str | None]:
    """Read the config.json of a full model, which need not be of a family that we know.

    Returns:
        The config; the model's folder, None on the Hub; the commit, None in a folder.

    Raises:
        ValueError: nothing there, not a full model, or the Hub cannot be reached.
    """
    folder = _folder(name)
    if folder is None:
        path = hub_config(name, revision)
        return read_json(path), None, path.parent.name
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} is an adapter; here a full model is needed: pass its base.")
    if not (folder / "config.json").is_file():
        no_run = "" if (folder / RUN_FILE).is_file() else ", and is no run, as it has no run.json"
        raise ValueError(
            f"{folder} holds no model: it has neither config.json nor adapter_config.json{no_run}."
        )
    return read_json(folder / "config.json"), folder, None


def _resolve_base(
    name: str,
    revision: str | None,
    family_name: str | None,
    options: FamilyOptions,
    given_revision: str | None,
) -> Checkpoint:
    """Resolve a full model; code of its own is pinned by the user's revision, not by a file's."""
    config, folder, commit = read_config(name, revision)
    model_type = str(config.get("model_type"))
    check_native(model_type, name)
    check_remote_code(
        [config, *(code_files(name, folder, commit) if options.trust_remote_code else ())],
        name,
        is_local=folder is not None,
        revision=given_revision,
        is_trusted=options.trust_remote_code,
    )
    return Checkpoint(
        base=name if folder is None else str(folder.resolve()),
        revision=commit,  # the weights are then taken from it too
        adapter=None,
        model_type=model_type,
        stored_in=stored_quantization(config),
        fingerprint=None if folder is None else fingerprint(folder, config),
        family=family_named(family_name, model_type) if family_name else family_for(config, name),
        options=options,
    )


def _check_same_base(
    adapter: Path, run: Mapping[str, Any], trained_on: str, base: Checkpoint, allow_mismatch: bool
) -> None:
    """Refuse a base that the adapter's run.json says it was not trained on, or warn."""
    is_same = same_weights(run.get("base_fingerprint"), base.fingerprint)
    if is_same is None and _place(trained_on) != _place(base.base):
        logger.warning(
            "Warning: adapter %s says that it was trained on %s; whether %s has the same weights "
            "is not known, and it is taken to be that model.",
            adapter,
            trained_on or "no base",
            base.base,
        )
    if is_same is not False:
        return
    problem = f"Adapter {adapter} was trained on {trained_on}, and {base.base} has other weights"
    if not allow_mismatch:
        raise ValueError(
            f"{problem}; name the model that it was trained on by --base_model (beside --lora_path "
            "by --model_path), or pass --allow_base_mismatch if you know better."
        )
    logger.warning("Warning: %s.", problem)


def _place(name: str) -> str:
    """Return where a model is: the full path of a folder, or the Hub id."""
    folder = _folder(name) if name == "tiny" or os.path.isdir(name) else None
    return name if folder is None else str(folder.resolve())
