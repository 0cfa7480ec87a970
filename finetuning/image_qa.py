"""Fine-tune on your own VQA data set: `python finetuning/image_qa.py --data_root FOLDER`.

The folder is one that `datasets` saved; each row has an image, a question and its answers. The
steps around it (download, score before and after, merge) are `palitune pipeline`.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command("image_qa", Recipe(max_eval_samples=None))

if __name__ == "__main__":
    main()
