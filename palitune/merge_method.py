"""The options on the arithmetic of a merge."""

import click

from merging.algebra.modes import MODES
from palitune.command import Option


def method_options() -> list[click.Parameter]:
    """Return the options that say how adapters are merged."""
    group = "Method"
    return [
        Option(
            ["--mode"],
            group=group,
            type=click.Choice(list(MODES)),
            default="auto",
            show_default=True,
            help="Merge by this rule; auto chooses by scores with --evaluate, else takes the "
            "average.",
        ),
        Option(
            ["--weights"],
            group=group,
            metavar="NUMBER,NUMBER",
            help="Weight the adapters by these numbers [default: 1/N each; 1 each for ties, "
            "dare_ties, core_ties].",
        ),
        Option(
            ["--lambda", "lam"],
            group=group,
            type=float,
            help="Scale the merged update by this number [default: 1].",
        ),
        Option(
            ["--density"],
            group=group,
            type=float,
            help="Keep this share of the entries [default: 0.3; 0.5 for dare].",
        ),
        Option(
            ["--t"],
            group=group,
            type=float,
            help="Merge at this place on slerp's arc [default: 0.5].",
        ),
        Option(
            ["--seed"],
            group=group,
            default=0,
            show_default=True,
            help="Seed dare's masks, the examples that --max_eval_samples draws, and the halves "
            "that choose and confirm.",
        ),
        *_rule_options(group),
    ]


def _rule_options(group: str) -> list[click.Parameter]:
    """Options on missing modules, on trimming and on norms."""
    return [
        Option(
            ["--missing"],
            group=group,
            type=click.Choice(["zero", "renorm"]),
            default="zero",
            show_default=True,
            help="Count an adapter without a module or tensor as an update of zero, or not at all.",
        ),
        Option(
            ["--trim_scope"],
            group=group,
            type=click.Choice(["tensor", "adapter"]),
            default="tensor",
            show_default=True,
            help="Take --density as a share of each module, or of the whole adapter as in the TIES "
            "authors' code.",
        ),
        Option(
            ["--normalize"],
            group=group,
            is_flag=True,
            help="Scale each adapter to the mean norm of all first; of low-rank updates alone.",
        ),
    ]
