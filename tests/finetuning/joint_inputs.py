"""Training on several tasks as a user starts it."""

from click.testing import CliRunner, Result

from palitune.main import palitune
from tasks.registry import get_task

VQAV2, COCO, DOCVQA = (get_task(name) for name in ("vqav2", "coco_captioning", "docvqa"))
BRIEF = ("--batch_size", 2, "--lora_rank", 4, "--save_steps", 1, "--logging_steps", 1)


def invoke(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(palitune, ["train", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result
