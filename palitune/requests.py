"""Parts of a request that several commands make."""

from collections.abc import Mapping
from typing import Any

from evaluation.request import ModelRequest, PromptRequest
from finetuning.training.run_state import check_came_to_its_end
from palitune import options


def make_model_request(path: str, values: Mapping[str, Any]) -> ModelRequest:
    """Return the model that the options name; those that a command does not have are left out.

    Raises:
        ValueError: it is a run that did not come to its end.
    """
    check_came_to_its_end(path)
    return ModelRequest(
        path=path,
        base_model=values.get("base_model"),
        revision=values["revision"],
        model_type=values["model_type"],
        family_options=options.make_family_options(values),
        allow_base_mismatch=values.get("allow_base_mismatch", False),
        quantization=values.get("quantization"),
        dtype=values.get("dtype"),
        device=values.get("device", "auto"),
        without_adapter=values.get("without_adapter", False),
    )


def make_prompt_request(values: Mapping[str, Any]) -> PromptRequest:
    """Return the settings of the prompt that the options give."""
    return PromptRequest(
        template=values["prompt_template"],
        system_message=values.get("system_message"),
        max_length=values["max_length"],
        truncate=values["truncate"],
    )
