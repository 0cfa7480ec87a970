"""Code that comes with a checkpoint: refused unless it is asked for and cannot change."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.json_files import read_json
from models.processor_files import find_file

# where transformers looks for `auto_map`, beside config.json
_CODE_FILES = (
    *("tokenizer_config.json", "processor_config.json", "preprocessor_config.json"),
    "video_preprocessor_config.json",
)


def check_remote_code(
    configs: Sequence[Mapping[str, Any]],
    name: str,
    *,
    is_local: bool,
    revision: str | None,
    is_trusted: bool,
) -> None:
    """Refuse code that may not run, before anything but small JSON files is there.

    `auto_map` in them names the files with the code
    (https://huggingface.co/docs/transformers/custom_models).

    Args:
        configs: content of config.json, then what `code_files` yields.
        name: folder or Hub id of the checkpoint.
        is_local: whether it is a folder.
        revision: what the user pins it by.
        is_trusted: `--trust_remote_code`.

    Raises:
        ValueError: the model cannot be loaded without that code, which is not trusted; or code is
            trusted, and may be another tomorrow.
    """
    files = sorted({file for config in configs for file in _references(config.get("auto_map"))})
    if not is_trusted:
        if _references(configs[0].get("auto_map")) and not is_native(
            str(configs[0].get("model_type"))
        ):
            raise ValueError(
                f"{name} comes with its own code ({', '.join(files)}), which transformers needs "
                "to load it; read that, then pass --trust_remote_code on the command line, and on "
                "the Hub --revision."
            )
        return
    elsewhere = next((file for file in files if "--" in file), None)
    if elsewhere is not None:
        raise ValueError(
            f"{name} takes code from another repository ({elsewhere}), which no --revision pins; "
            "download both, correct each auto_map, and pass the folder."
        )
    if not is_local and not _is_pinned(name, revision):
        raise ValueError(
            f"--trust_remote_code runs code of {name}, and what {revision or 'main'} stands for "
            "may change; pass --revision with the commit that you have read (40 hex digits) or a "
            "tag, of an adapter's base on the Hub beside --base_model."
        )


def _references(auto_map: Any) -> list[str]:
    """The files of `{"AutoModel": "file.Class", "AutoTokenizer": ["file.Class", null], …}`."""
    entries = auto_map.values() if isinstance(auto_map, Mapping) else [auto_map]
    references = [r for entry in entries for r in (entry if isinstance(entry, list) else [entry])]
    return [f"{str(r).rpartition('.')[0]}.py" for r in references if r is not None]


def code_files(name: str, folder: Path | None, commit: str | None) -> Iterator[dict[str, Any]]:
    """Yield the small files beside config.json that may name code, as far as they are there."""
    for file in _CODE_FILES:
        path = None if folder is None else folder / file
        if folder is None:
            with suppress(OSError):  # not in the cache, and then nobody reads it
                path = find_file(name, commit, file)
        if path is not None and path.is_file():
            yield read_json(path)


def is_native(model_type: str) -> bool:
    """Return True where transformers has this kind itself; many once came with code."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _is_pinned(name: str, revision: str | None) -> bool:
    if revision is None:
        return False
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return True
    from huggingface_hub import list_repo_refs
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return revision in {tag.name for tag in list_repo_refs(name).tags}
    except (HfHubHTTPError, OfflineModeIsEnabled):  # then only a commit is known not to move
        return False
