"""Fine-tune on conversations: `python finetuning/conversations.py --train_file talk.json`.

The file is one of LLaVA or ShareGPT, or has chat messages: JSON, JSON Lines or Parquet.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command(
    "conversations", Recipe(max_eval_samples=None), model="llava-hf/llava-1.5-7b-hf"
)

if __name__ == "__main__":
    main()
