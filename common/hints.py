"""Options of other programs by their names here: LLaMA-Factory, TRL, Unsloth, ms-swift, Trainer.

Also arguments of `transformers.TrainingArguments`, `peft.LoraConfig` and `BitsAndBytesConfig`, as
their users type them.
"""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

# Their name -> the options that it may mean, with a value where it means that one. A command names
# those that it has.
NAMES: dict[str, tuple[str, ...]] = {
    "lr": ("--learning_rate",),
    "num_epoch": ("--num_epochs",),
    "num_train_epochs": ("--num_epochs",),
    "n_epochs": ("--num_epochs",),
    "epoch": ("--num_epochs",),
    "max_epochs": ("--num_epochs",),
    "steps": ("--max_steps",),
    "num_steps": ("--max_steps",),
    "train_batch_size": ("--batch_size",),
    "bs": ("--batch_size",),
    "micro_batch_size": ("--batch_size",),
    "per_device_batch_size": ("--batch_size",),
    "per_device_train_batch_size": ("--batch_size",),
    "per_device_eval_batch_size": ("--eval_batch_size", "--batch_size"),
    "gradient_accumulation": ("--gradient_accumulation_steps",),
    "grad_accum": ("--gradient_accumulation_steps",),
    "accumulation_steps": ("--gradient_accumulation_steps",),
    "global_batch_size": ("--effective_batch_size",),
    "total_batch_size": ("--effective_batch_size",),
    "lr_scheduler": ("--lr_scheduler_type",),
    "scheduler": ("--lr_scheduler_type",),
    "warmup": ("--warmup_ratio", "--warmup_steps"),
    "optimizer": ("--optim",),
    "max_grad": ("--max_grad_norm",),
    "clip_grad": ("--max_grad_norm",),
    "use_gradient_checkpointing": ("--gradient_checkpointing on",),
    "torch_compile": ("--compile",),
    "r": ("--lora_rank",),
    "lora_r": ("--lora_rank",),
    "rank": ("--lora_rank",),
    "alpha": ("--lora_alpha",),
    "dropout": ("--lora_dropout",),
    "target_modules": ("--lora_target_modules",),
    "lora_target": ("--lora_target_modules",),
    "dora": ("--use_dora",),
    "rslora": ("--use_rslora",),
    "freeze_vit": ("--lora_vision",),
    "freeze_vision_tower": ("--lora_vision",),
    "finetune_vision_layers": ("--lora_vision",),
    "load_in_4bit": ("--quantization nf4",),
    "use_4bit": ("--quantization nf4",),
    "load_in_8bit": ("--quantization int8",),
    "quantization_bit": ("--quantization nf4", "--quantization int8"),
    "quant_bits": ("--quantization nf4", "--quantization int8"),
    "bits": ("--quantization nf4", "--quantization int8"),
    "fp16": ("--dtype fp16",),
    "bf16": ("--dtype bf16",),
    "fp32": ("--dtype fp32",),
    "torch_dtype": ("--dtype",),
    "precision": ("--dtype",),
    "model": ("--model_path", "--base_model"),
    "model_name": ("--model_path", "--base_model"),
    "model_name_or_path": ("--model_path", "--base_model"),
    "pretrained_model_name_or_path": ("--model_path", "--base_model"),
    "base": ("--base_model", "--model_path"),
    "adapter": ("--lora_path", "--model_path"),
    "adapters": ("--lora_path", "--model_path"),
    "adapter_path": ("--lora_path", "--model_path"),
    "adapter_name_or_path": ("--lora_path", "--model_path"),
    "peft_path": ("--lora_path", "--model_path"),
    "trust_code": ("--trust_remote_code",),
    "template": ("--chat_template",),
    "system": ("--system_message",),
    "system_prompt": ("--system_message",),
    "prompt": ("--prompt_template", "--question"),
    "image_max_pixels": ("--max_pixels",),
    "image_min_pixels": ("--min_pixels",),
    "image_resolution": ("--max_pixels", "--image_size"),
    "resolution": ("--image_size", "--max_pixels"),
    "dataset": ("--data_root", "--hub_repo"),
    "dataset_name": ("--hub_repo", "--data_root"),
    "dataset_dir": ("--data_root",),
    "dataset_path": ("--data_root",),
    "data_path": ("--data_root",),
    "data_dir": ("--data_root",),
    "data": ("--data_root",),
    "media_dir": ("--data_root",),
    "image_folder": ("--data_root",),
    "train_file": ("--train_csv", "--data_root"),
    "train_data": ("--train_csv", "--data_root"),
    "validation_file": ("--val_csv", "--data_root"),
    "val_file": ("--val_csv", "--data_root"),
    "eval_file": ("--val_csv", "--csv", "--data_root"),
    "test_file": ("--test_csv", "--csv", "--data_root"),
    "dataset_split": ("--train_split", "--split"),
    "max_samples": ("--max_train_samples", "--max_eval_samples"),
    "num_samples": ("--max_train_samples", "--max_eval_samples"),
    "limit": ("--max_eval_samples",),
    "cutoff_len": ("--max_length",),
    "max_seq_length": ("--max_length",),
    "max_seq_len": ("--max_length",),
    "model_max_length": ("--max_length",),
    "num_proc": ("--num_workers",),
    "workers": ("--num_workers",),
    "dataloader_num_workers": ("--num_workers",),
    "preprocessing_num_workers": ("--num_workers",),
    "save_dir": ("--output_dir", "--output"),
    "output_path": ("--output_dir", "--output"),
    "out": ("--output_dir", "--output"),
    "out_dir": ("--output_dir", "--output"),
    "output": ("--output_dir",),
    "hub_model_id": ("--push_to_hub",),
    "hub_private_repo": ("--private",),
    "data_seed": ("--seed",),
    "use_cpu": ("--device cpu",),
    "no_cuda": ("--device cpu",),
    "save_strategy": ("--save_steps",),
    "logging_strategy": ("--logging_steps",),
    "logging_dir": ("--output_dir",),
    "overwrite_output_dir": ("--overwrite",),
    "resume_from_checkpoint": ("--resume",),
    "resume_from": ("--resume",),
    "save_limit": ("--save_total_limit",),
    "eval_strategy": ("--eval_epochs", "--eval_steps"),
    "evaluation_strategy": ("--eval_epochs", "--eval_steps"),
    "patience": ("--early_stopping_patience",),
    "early_stopping": ("--early_stopping_patience",),
    "wandb": ("--use_wandb",),
    "project": ("--wandb_project",),
    "logger": ("--report_to",),
    "max_tokens": ("--max_new_tokens",),
    "max_generated_tokens": ("--max_new_tokens",),
    "beams": ("--num_beams",),
    "beam_size": ("--num_beams",),
    "sample": ("--do_sample",),
    "random_seed": ("--seed",),
    "method": ("--mode",),
    "merge_method": ("--mode",),
    "model_1": ("--model_a",),
    "model_2": ("--model_b",),
    "scale": ("--lambda",),
    "export_dir": ("--output",),
    "save_path": ("--output", "--output_dir"),
    "metrics": ("--text_metrics",),
    "output_file": ("--output", "--output_dir"),
    "tasks": ("--task",),
    "dataset_text_field": ("--instruction_column", "--hub_columns"),
    "gpu": ("--device",),
    "gpus": ("--device",),
}

# Their name -> why there is no such option.
SENTENCES: dict[str, str] = {
    "do_train": "this command trains, and eval.py scores",
    "do_eval": "the run is scored at its end unless --skip_evaluation is given",
    "do_predict": "`palitune predict` answers, and eval.py scores",
    "load_best_model_at_end": "the best checkpoint by the task's metric is what a run ends with, "
    "where --eval_steps or --eval_epochs scores on the way",
    "metric_for_best_model": "the task's official metric chooses the best checkpoint",
    "local_rank": "torchrun tells it",
    "hub_token": "the token is that of `hf auth login`",
    "stage": "the training is supervised fine-tuning, always",
    "finetuning_type": "the training is LoRA, always",
    "train_type": "the training is LoRA, always",
    "use_lora": "the training is LoRA, always",
    "use_peft": "the training is LoRA, always",
    "lora": "the training is LoRA, always",
    "deepspeed": "several GPUs are used by `torchrun --nproc_per_node N`, without DeepSpeed",
    "fsdp": "several GPUs are used by `torchrun --nproc_per_node N`, without FSDP",
    "flash_attn": "attention is PyTorch's own, which takes flash kernels where they fit",
    "attn_implementation": "attention is PyTorch's own, which takes flash kernels where they fit",
    "packing": "each example is a row of its batch, padded to the longest",
    "plot_loss": "every run has its curves",
    "use_unsloth": "no kernels of other projects are used",
    "use_liger_kernel": "logits are made at answer positions alone, without kernels of others",
}


def names_here(name: str, present: Collection[str]) -> list[str]:
    """Return the options that a name of another program may mean, of those that are present."""
    known = NAMES.get(_plain(name), ())
    return [entry for entry in known if entry.split()[0] in present]


def why_not_needed(name: str) -> str | None:
    """Return why there is no option for what another program has by this name."""
    return SENTENCES.get(_plain(name))


def hint(option: str, present: Collection[str]) -> str | None:
    """Return what an option of another program is called here.

    Args:
        option: as it was typed, `--lr`.
        present: the options of the command.

    Returns:
        One sentence; None where it is known nowhere, or the command has nothing of the kind.
    """
    if reason := why_not_needed(option):
        return f"{option} is not needed: {reason}."
    found = names_here(option, present)
    return f"{option} is {' or '.join(found)} here." if found else None


def hint_all(options: Sequence[str], present: Collection[str]) -> str:
    """Return one sentence on all options of a command line that the command has not.

    Args:
        options: as they were typed.
        present: the options of the command.
    """
    return "; ".join(_clause(option, present) for option in options) + "."


def _clause(option: str, present: Collection[str]) -> str:
    if known := hint(option, present):
        return known.removesuffix(".")
    near = get_close_matches(option, sorted(present), n=1, cutoff=0.7)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"{option} is no option here{meant}"


def _plain(name: str) -> str:
    return name.lstrip("-").lower().replace("-", "_")
