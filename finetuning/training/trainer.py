"""The one trainer: 4-bit load -> LoRA -> transformers.Trainer -> save -> score."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    set_seed,
)

from common.workers import count_workers
from finetuning.training import checkpoints
from finetuning.training.arguments import make_arguments, warn_of_short
from finetuning.training.compiled import as_written, compile_layers
from finetuning.training.data_wait import DataWait
from finetuning.training.examples import (
    EncodedExamples,
    EpochSampler,
    JointExamples,
    collate,
    longest,
)
from finetuning.training.lora import add_lora
from finetuning.training.loss import answer_loss, count_items
from finetuning.training.memory import MeasuredPeak
from finetuning.training.number_watch import NumberWatch
from finetuning.training.plan import Plan, make_plan
from finetuning.training.recipe import Recipe
from finetuning.training.settings import LossReduction
from finetuning.training.short_walks import short_walks
from models.loading import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

Scorer = Callable[[Any], Mapping[str, float]]  # model -> named figures, the headline first


class AnswerTrainer(Trainer):
    """transformers' Trainer with our order, our loss and our metric.

    Args:
        plan: how a step is cut, which the arguments say too.
        scorer: what `evaluate` calls; None where nothing is scored during training.
        loss_reduction: see `finetuning.training.loss.answer_loss`.
        **arguments: for `transformers.Trainer`.
    """

    # ours divides by the items of the whole optimiser step, micro-batches included; without this
    # the library would divide again, or (where a model takes loss arguments) not at all
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        plan: Plan,
        scorer: Scorer | None,
        loss_reduction: LossReduction,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.plan = plan
        self.peak = MeasuredPeak(self.args.device)
        self.scorer = scorer
        self.control: Any
        self.trained: torch.nn.Module = self.model
        self.loss_reduction = loss_reduction
        self.watch = NumberWatch()
        self.data_wait = DataWait()
        self.add_callback(self.data_wait)
        self.staging: Path | None = None  # where a checkpoint is being written
        self.has_come_to_its_end = False  # the run that is resumed, by its patience

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return EpochSampler(len(self.train_dataset), self.args.seed)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return the micro-batches of one optimiser step and what their loss is divided by."""
        with self.data_wait:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_items = torch.tensor(count_items(batches, self.loss_reduction), device=device)
        if self.args.world_size > 1:  # DDP averages gradients: the mean over processes is right
            num_items = self.accelerator.gather(num_items).float().mean()
        return batches, num_items

    def planned_steps(self) -> int:
        """Return the number of optimiser steps that the whole training has."""
        *_, num_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        return int(num_steps)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the library's estimate walks all weights each step, and trains them all too."""
        return 0

    def _run_epoch(self, **arguments: Any) -> None:
        """Train an epoch; nothing where a resumed run has come to its end, inside an epoch too."""
        if self.has_come_to_its_end or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        with short_walks(arguments["model"]) as self.trained:
            super()._run_epoch(**arguments)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load their states; the rate is that of the schedule now, which may be another one."""
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        if checkpoint is not None and isinstance(schedule, LambdaLR):
            factors = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            rates = [base * factor(schedule.last_epoch) for base, factor in factors]
            schedule._last_lr = rates
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def _load_callback_state(self) -> None:
        """Go on by what is asked for now, from the best checkpoint where it lies now.

        The library would keep the steps and the patience of the run before, and look for its best
        checkpoint where that was when it was written.
        """
        state, callbacks = self.state, self.callback_handler.callbacks
        asked = [c.early_stopping_patience for c in _early_stopping(callbacks)]
        super()._load_callback_state()
        state.compute_steps(self.args, state.max_steps)
        restored = _early_stopping(self.callback_handler.callbacks)
        for callback, patience in zip(restored, asked, strict=True):
            callback.early_stopping_patience = patience
            if callback.early_stopping_patience_counter >= patience:
                self.has_come_to_its_end = True
        best = Path(self.args.output_dir) / f"checkpoint-{state.best_global_step}"
        state.best_model_checkpoint = str(best) if best.is_dir() else None

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Save a checkpoint at each best score, whatever the steps between checkpoints."""
        is_best = bool(super()._determine_best_metric(metrics, trial))
        if is_best:
            self.control.should_save = True
        return is_best

    def compute_loss(
        self,
        model: "PreTrainedModel",
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of one micro-batch; those of an optimiser step add up to its loss."""
        assert not return_outputs, "scoring is by generation, see evaluate()"
        ids = inputs.pop("example_ids", ())
        loss = answer_loss(model, inputs, num_items_in_batch, self.loss_reduction)
        self.watch.add(loss.detach(), ids)
        return loss

    def _clip_grad_norm(self, model: "PreTrainedModel") -> Any:
        """Clip the gradients of what is trained; nothing else has any."""
        return super()._clip_grad_norm(self.trained)

    def _get_grad_norm(
        self, model: "PreTrainedModel", grad_norm: torch.Tensor | float | None = None
    ) -> Any:
        """Measure the gradient, and stop before a step that would leave no numbers."""
        norm = super()._get_grad_norm(self.trained, grad_norm)
        # fp16 has its own way: it leaves a step out and scales less
        self.watch.check(None if self.args.fp16 else norm, self.model, self.state, self._rate())
        return norm

    def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any) -> Any:
        """Run one micro-batch forward and backward; its memory is measured."""
        with self.peak.watching(inputs["input_ids"].numel()):
            return super().training_step(model, inputs, *arguments)

    def costs(self) -> dict[str, Any]:
        """Return what the training took, for metrics.json; predicted and measured are bytes."""
        plan, peak = self.plan, self.plan.peak
        return {
            "batch_size": plan.batch_size,
            "gradient_accumulation_steps": plan.accumulation,
            "gradient_checkpointing": plan.recompute,
            # some layers keep theirs all the same
            "num_layers_kept": plan.num_kept if plan.recompute else None,
            "predicted_peak_memory": peak.total,
            "measured_peak_memory": peak.total - peak.step + self.peak.step,
            "data_wait_share": self.data_wait.share(),
        }

    def _rate(self) -> float:
        return float(self._get_learning_rate())

    def _get_output_dir(self, trial: object) -> str:
        return str(self.staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: "PreTrainedModel", trial: object) -> None:
        """Save beside the other checkpoints and name it when it is whole; then remove old ones."""
        root, step = Path(self.args.output_dir), self.state.global_step
        self.watch.check_weights(self.model, self.state, self._rate())
        with checkpoints.staged(root, step, self.args.should_save) as folder:
            self.staging = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.staging = None
            if self.state.best_global_step:  # the library has named the place that it was in
                best = root / f"checkpoint-{self.state.best_global_step}"
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                self.state.save_to_json(str(folder / "trainer_state.json"))
            self.accelerator.wait_for_everyone()  # each process has written its random state
        if self.args.should_save:
            limit = self.args.save_total_limit or 1
            checkpoints.remove_old(root, limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score by generation; logs and returns `eval_<figure>`. It leaves training unchanged."""
        assert self.scorer is not None
        with as_written():
            metrics = {f"eval_{name}": value for name, value in self.scorer(self.model).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def _early_stopping(callbacks: Iterable[TrainerCallback]) -> list[EarlyStoppingCallback]:
    return [c for c in callbacks if isinstance(c, EarlyStoppingCallback)]


def make_trainer(
    loaded: LoadedModel,
    examples: EncodedExamples | JointExamples,
    recipe: Recipe,
    output_dir: Path,
    scorer: Scorer | None,
    metric: str,
) -> AnswerTrainer:
    """Make a trainer ready to run, its model with LoRA on top and checked.

    Args:
        loaded: the base model.
        examples: what to train on.
        recipe: how.
        output_dir: checkpoints go into a folder of it.
        scorer: scores the model during training, or None.
        metric: name of the headline among the scorer's figures.
    """
    model = add_lora(loaded.model, loaded.family, recipe)
    is_scored = scorer is not None and recipe.evaluates_during_training
    arguments = make_arguments(loaded, recipe, output_dir, metric if is_scored else None)
    logger.info("trying a step to plan its memory")
    plan = make_plan(model, loaded, longest(examples), recipe, arguments)
    arguments.per_device_train_batch_size = plan.batch_size
    arguments.gradient_accumulation_steps = plan.accumulation
    # new ones each epoch: each start draws a random number, in a resumed run as in a whole one
    arguments.dataloader_num_workers = count_workers(recipe.num_workers, len(examples))
    logger.info("plan: %s", plan.summary())
    if recipe.compile:
        compile_layers(model, loaded.family)
    callbacks: list[TrainerCallback] = []
    if recipe.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience))
    set_seed(recipe.seed)
    trainer = AnswerTrainer(
        plan=plan,
        scorer=scorer,
        loss_reduction=recipe.loss_reduction,
        model=model,
        args=arguments,
        train_dataset=examples,
        eval_dataset=examples if is_scored else None,  # only so that evaluate() is called
        data_collator=partial(collate, loaded.family),
        callbacks=callbacks,
    )
    warn_of_short(arguments, trainer.planned_steps(), len(examples))
    trainer.remove_callback(PrinterCallback)  # a bar shows what it would print
    return trainer
