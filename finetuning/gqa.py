"""Fine-tune on GQA: `python finetuning/gqa.py --data_root DIR`.

The published transfer is 1 epoch of full fine-tuning at 1e-5 (big_vision,
configs/proj/paligemma/transfers/gqa.py); LoRA takes a higher rate and more passes.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command("gqa", Recipe(learning_rate=2e-4, num_epochs=3, batch_size=4))

if __name__ == "__main__":
    main()
