"""QLoRA from top to bottom, without a trainer: `python docs/plain_loop.py` (a minute on a CPU).

The embedded tiny PaliGemma is held in 4 bits and learns to read handwritten digits by a LoRA
adapter. What `python finetuning/digits.py --model_path tiny` does in many files, with checkpoints,
curves and scores, is here one function, to be read downwards; `tests/docs/test_plain_loop.py` shows
that both have the same loss at each step.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor

from models.base import ATTENTION, FFN
from models.checkpoint import resolve
from models.encoding import IGNORE_INDEX
from models.loading import load_model
from tasks.base import Source, Task
from tasks.registry import get_task


def train(
    task: Task,
    *,
    num_examples: int = 1400,
    num_steps: int = 200,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    warmup_ratio: float = 0.03,
    lora_rank: int = 16,
    lora_alpha: int = 32,
    lora_dropout: float = 0.05,
    max_grad_norm: float = 1.0,
    seed: int = 0,
) -> list[float]:
    """Fine-tune the tiny PaliGemma on a task and return the loss of each step."""
    # 1. The model. Each linear layer of its language model is held as 4-bit numbers (NF4), a scale
    # for each 64 of them; it is multiplied in full precision and never changed.
    loaded = load_model(resolve("tiny"), quantization="nf4", dtype="fp32", device="cpu")
    family = loaded.family

    # 2. The adapter. Beside each frozen layer W, in attention and feed-forward, two small matrices
    # learn: y = W x + alpha / rank * B A x. B starts at zero, so the first step sees the base.
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora_rank,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=rf"{family.language_model}\..*(?:{ATTENTION}|{FFN})",
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(loaded.model, config)
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    # 3. The optimiser, and a learning rate that rises in a straight line and falls as a cosine.
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    num_warmup = math.ceil(num_steps * warmup_ratio)

    def share_of_rate(step: int) -> float:
        if step < num_warmup:
            return step / num_warmup
        done = (step - num_warmup) / max(1, num_steps - num_warmup)
        return 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_rate)

    # 4. The data: each epoch in a new order.
    data = task.load("train", Source()).subset(num_examples, seed)
    template = task.prompt(family.name)
    losses: list[float] = []
    epoch = 0
    while len(losses) < num_steps:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(data), generator=generator)
        for indices in order.split(batch_size):
            # 5. A batch: image, prompt and answer of each example, padded to one length. The
            # labels are the answer's tokens and the end of text, and IGNORE_INDEX elsewhere.
            encoded = []
            for index in indices.tolist():
                example = data[index]
                prompt = template.format(question=example.turns[-1].text)
                answer = task.target(example, epoch, seed)
                messages = [("user", prompt), ("assistant", answer)]
                encoded.append(family.encode(example.image.open(), messages))
            batch = family.collate(encoded)

            # 6. One step: forward, loss, gradients of A and B, clip, move, next learning rate.
            loss = answer_loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

            losses.append(loss.item())
            print(f"step {len(losses):4}  loss {losses[-1]:.4f}", flush=True)
            if len(losses) == num_steps:
                break
        epoch += 1
    return losses


def answer_loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the cross-entropy of the answers: the mean over each one's tokens, then over them.

    So a long answer counts no more than a short one, as in the published PaliGemma transfers.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits[:, :-1]  # position i predicts token i + 1
    labels = batch["labels"][:, 1:]
    token_losses = F.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )  # (B, L), zero where there is no answer
    num_tokens = (labels != IGNORE_INDEX).sum(dim=1)
    return (token_losses.sum(dim=1) / num_tokens).mean()


if __name__ == "__main__":
    train(get_task("digits"))
