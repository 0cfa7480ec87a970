"""Fine-tune on your own table: `python finetuning/csv_qa.py --train_csv FILE --val_csv FILE`.

Each row of the CSV, JSON Lines or Parquet table has an image, an instruction and a response.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command(
    "csv_qa", Recipe(learning_rate=2e-4, num_epochs=3, batch_size=4, max_eval_samples=None)
)

if __name__ == "__main__":
    main()
