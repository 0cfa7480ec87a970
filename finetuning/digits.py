"""Fine-tune on handwritten digits: `python finetuning/digits.py --model_path tiny`.

The digits come with scikit-learn, so there is no --data_root; nothing was published for them.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command("digits", Recipe(learning_rate=2e-4, num_epochs=3, batch_size=4))

if __name__ == "__main__":
    main()
