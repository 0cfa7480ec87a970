"""Measurements that tell whether a model is fed, trained and asked as it should be.

Each would pass unnoticed in a loss curve that falls. All are taken of the model as it is loaded,
in fp32 where the caller loads it so: then what is left of a figure is the rounding of sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from tempfile import TemporaryDirectory
from unicodedata import normalize

import torch
import torch.nn.functional as F

from finetuning.training.gradients import modules_without_gradient
from finetuning.training.loss import answer_loss, count_items
from finetuning.training.probe_tools import (
    Conversation,
    batch_logits,
    count_image_tokens,
    encode_to_ask,
    encode_to_train,
    gradient_of,
    lengthened,
    logits_of,
    new_adapter,
    on_device,
    pad_on_the_right,
    relative_gap,
)
from models.encoding import IGNORE_INDEX
from models.loading import LoadedModel
from models.quantization import quantized_layers
from models.settings import Decoding

# Of the spread of the logits. Sums of fp32 in another order move them by 1e-6 on a tiny model and
# 1e-4 on a large one, the faults that are looked for by 1e-2 and more.
TOLERANCE = 1e-3
ODD_SIZES = ((37, 150), (150, 37), (5, 3), (1100, 750))  # (width, height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The measurement of a probe.

    Attributes:
        figure: of mistakes their number, else a relative difference.
        limit: the most that it may be.
        reason: what was measured, in one sentence.
    """

    figure: float
    limit: float
    reason: str

    @property
    def passed(self) -> bool:
        """Return True where the figure is within its limit; NaN is not."""
        return self.figure <= self.limit


Probe = Callable[[LoadedModel, Sequence[Conversation]], Finding]


def run_probe(name: str, loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Run one of `PROBES`; a probe that stops with an error has failed by it.

    Args:
        name: of the probe.
        loaded: a base model without adapter; it is left as it was.
        conversations: at least one; with several, rows of a batch cannot be mistaken unnoticed.
    """
    try:
        return PROBES[name](loaded, conversations)
    except Exception as error:  # a model's own code may raise anything
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        reason = f"It stopped with {type(error).__name__}: {first}."
        return Finding(figure=float("inf"), limit=0, reason=reason)


def probe_labels(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that each answer and the token that ends it are learned, and nothing else."""
    family = loaded.family
    stops = loaded.model.generation_config.eos_token_id
    batch = family.collate(
        [encode_to_train(loaded, conversation) for conversation in conversations]
    )
    wrong: list[str] = []
    for ids, labels, conversation in zip(
        batch["input_ids"].tolist(), batch["labels"].tolist(), conversations, strict=True
    ):
        runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE_INDEX)
        learned = [list(run) for is_learned, run in runs if is_learned]
        answers = [text for role, text in conversation.messages if role == "assistant"]
        texts = [family.tokenizer.decode([label for _, label in run[:-1]]) for run in learned]
        if (
            list(map(_normal, texts)) != list(map(_normal, answers))
            or any(id_ != label for run in learned for id_, label in run)
            or any(run[-1][1] not in stops for run in learned)
        ):
            wrong.append(family.tokenizer.decode([label for run in learned for _, label in run]))
    reason = (
        f"{len(conversations) - len(wrong)} of {len(conversations)} conversations learn exactly "
        "the answer and its end token, each in its own place"
    )
    shown = f"; one learns {wrong[0]!r}" if wrong else ""
    return Finding(figure=len(wrong), limit=0, reason=f"{reason}{shown}.")


def _normal(text: str) -> str:
    """Return a text in the form that some tokenizers bring each text to."""
    return normalize("NFC", text).strip()


def probe_prompt(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that an answer is learned behind the very tokens that ask for it."""
    wrong = 0
    for conversation in conversations:
        asked = encode_to_ask(loaded, conversation).input_ids
        trained = encode_to_train(loaded, conversation)
        wrong += trained.input_ids[: len(asked)] != asked or not trained.is_target[len(asked)]
    return Finding(
        figure=wrong,
        limit=0,
        reason=f"{wrong} of {len(conversations)} prompts are other tokens in training than in "
        "generation.",
    )


def probe_image_tokens(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that an image of any shape is as many tokens as the model makes features of it."""
    wrong: list[str] = []
    counts: list[int] = []
    for size in ODD_SIZES:
        odd = replace(conversations[0], image=conversations[0].image.resize(size))
        encoded = encode_to_train(loaded, odd)
        num_tokens, num_features = count_image_tokens(loaded, encoded)
        counts.append(num_tokens)
        if num_features != num_tokens:
            wrong.append(f"{size[0]}x{size[1]} gives {num_tokens} for {num_features} features")
        logits_of(loaded, [encoded])  # the model's own check of them
    sizes = ", ".join(f"{width}x{height}" for width, height in ODD_SIZES)
    shown = "; ".join(wrong) or "one for each feature"
    reason = f"Images of {sizes} are {', '.join(map(str, counts))} tokens: {shown}."
    return Finding(figure=len(wrong), limit=0, reason=reason)


def probe_padding(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that logits are the same alone, beside a longer example, and padded on either side."""
    examples = [
        encode_to_train(loaded, each) for each in (lengthened(conversations[0]), *conversations)
    ]
    alone = torch.cat([logits_of(loaded, [example]) for example in examples])
    batch = loaded.family.collate(examples)
    left = relative_gap(batch_logits(loaded, batch), alone)
    right = relative_gap(batch_logits(loaded, pad_on_the_right(batch)), alone)
    return Finding(
        figure=max(left, right),
        limit=TOLERANCE,
        reason=f"Beside a longer example logits move by {left:.1e} of their spread, and by "
        f"{right:.1e} with the padding on the right.",
    )


def probe_leak(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that no logit sees the token that it is to predict, nor one behind."""
    gaps = []
    for conversation in conversations:
        batch = loaded.family.collate([encode_to_train(loaded, conversation)])
        changed = {name: tensor.clone() for name, tensor in batch.items()}
        learned = (batch["labels"][0] != IGNORE_INDEX).nonzero().flatten().tolist()
        changed["input_ids"][0, learned[-1]] = batch["input_ids"][0, learned[0]]
        gaps.append(relative_gap(batch_logits(loaded, changed), batch_logits(loaded, batch)))
    return Finding(
        figure=max(gaps),
        limit=TOLERANCE,
        reason=f"With another last token the logits before it move by {max(gaps):.1e} of their "
        "spread.",
    )


def probe_generation(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that answers generated in one batch are those generated one by one."""
    examples = [
        encode_to_ask(loaded, each) for each in (lengthened(conversations[0]), *conversations)
    ]
    decoding = Decoding(max_new_tokens=8)
    family, model = loaded.family, loaded.model
    alone = [family.generate(model, [example], decoding)[0] for example in examples]
    together = family.generate(model, examples, decoding)
    pairs = zip(alone, together, strict=True)
    wrong = [f"{one!r} became {other!r}" for one, other in pairs if one != other]
    shown = f": {wrong[0]}" if wrong else ""
    reason = f"{len(wrong)} of {len(examples)} answers change in a batch{shown}."
    return Finding(figure=len(wrong), limit=0, reason=reason)


def probe_training(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that only the language model is in 4 bits, and all of its LoRA trains."""
    names = list(quantized_layers(loaded.model))
    outside = [name for name in names if not name.startswith(f"{loaded.family.language_model}.")]
    with new_adapter(loaded) as adapted:
        batch = loaded.family.collate([encode_to_train(loaded, conversations[0])])
        dead, num_modules = modules_without_gradient(adapted.model, batch, "token")
    shown = "".join(f"; {name}" for name in [*outside, *dead][:1])
    return Finding(
        figure=len(outside) + len(dead),
        limit=0,
        reason=f"{len(outside)} of {len(names)} quantised layers are outside the language model, "
        f"{len(dead)} of {num_modules} LoRA modules get no gradient after an evaluation{shown}.",
    )


def probe_loss(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that the loss and gradients of the answer's logits alone are those of all logits."""
    with new_adapter(loaded, drawn=True) as adapted:
        batch = on_device(
            adapted, loaded.family.collate([encode_to_train(loaded, conversations[0])])
        )
        output = adapted.model(**batch)
        every = F.cross_entropy(output.logits[0, :-1].float(), batch["labels"][0, 1:])
        expected, own = every.item(), output.loss.item()
        del output  # the largest tensor
        expected_gradient = gradient_of(adapted.model, every)
        ours = answer_loss(adapted.model, batch, count_items([batch], "token"), "token")
        loss = ours.item()
        gradient = gradient_of(adapted.model, ours)
    gap = float((gradient - expected_gradient).norm() / expected_gradient.norm())
    is_other = abs(own - expected) > TOLERANCE * expected  # by design, in a few models
    shown = f"; the model's own loss is another, {own:.4f}" if is_other else ""
    return Finding(
        figure=max(abs(loss - expected) / expected, gap),
        limit=TOLERANCE,
        reason=f"The loss is {loss:.4f}, by the logits of all positions {expected:.4f}, and its "
        f"gradients differ by {gap:.1e}{shown}.",
    )


def probe_adapter(loaded: LoadedModel, conversations: Sequence[Conversation]) -> Finding:
    """Check that an adapter saved and loaded by plain PEFT gives the logits that it gave."""
    from peft import PeftModel

    encoded = [encode_to_train(loaded, conversations[0])]
    before = logits_of(loaded, encoded)
    with new_adapter(loaded, drawn=True) as adapted, TemporaryDirectory() as folder:
        trained = logits_of(adapted, encoded)
        adapted.model.save_pretrained(folder)
        plain = PeftModel.from_pretrained(adapted.model.unload(), folder).eval()
        gap = relative_gap(logits_of(replace(loaded, model=plain), encoded), trained)
    return Finding(
        figure=gap,
        limit=TOLERANCE,
        reason=f"An adapter that moves logits by {relative_gap(trained, before):.1e} of their "
        f"spread gives them back with a difference of {gap:.1e} when it is saved and loaded.",
    )


PROBES: dict[str, Probe] = {
    "labels": probe_labels,
    "prompt": probe_prompt,
    "image tokens": probe_image_tokens,
    "padding": probe_padding,
    "leak": probe_leak,
    "generation": probe_generation,
    "training": probe_training,
    "loss": probe_loss,
    "adapter": probe_adapter,
}
