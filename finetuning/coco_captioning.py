"""Fine-tune on COCO captions: `python finetuning/coco_captioning.py --data_root DIR`.

The published transfer is 5 epochs of full fine-tuning at 1e-5 (big_vision,
configs/proj/paligemma/transfers/cococap.py); LoRA takes a higher rate and fewer passes.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

main = finetune_command("coco_captioning", Recipe(learning_rate=2e-4, num_epochs=3, batch_size=4))

if __name__ == "__main__":
    main()
