"""Fine-tune on QuIC-360: `python finetuning/quic360.py --train_csv FILE --test_csv FILE`.

Without options the tables are data/quic360/{train,valid,test}.csv. Nothing was published for LoRA;
these are the settings that users of the data set train with.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

_RECIPE = Recipe(lora_dropout=0.1, max_eval_samples=None, num_viz_samples=10)
main = finetune_command("quic360", _RECIPE)

if __name__ == "__main__":
    main()
