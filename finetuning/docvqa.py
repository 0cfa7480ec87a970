"""Fine-tune on DocVQA: `python finetuning/docvqa.py --data_root DIR`.

The published transfer is 10 epochs of full fine-tuning at 1e-5 (big_vision,
configs/proj/paligemma/transfers/docvqa.py); LoRA takes a higher rate and fewer passes.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command("docvqa", Recipe(learning_rate=2e-4, num_epochs=5, batch_size=4))

if __name__ == "__main__":
    main()
