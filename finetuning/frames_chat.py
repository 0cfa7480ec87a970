"""Fine-tune on chats about camera frames: `--frames DIR --messages FILE --labels FILE`.

Learning rate, batch size, epochs and TensorBoard are what LLaVA 1.5 is trained with on such
conversations.
"""

from finetuning.training.recipe import Recipe
from palitune.train import finetune_command

_RECIPE = Recipe(learning_rate=1.4e-5, batch_size=8, num_epochs=1, report_to="tensorboard")
main = finetune_command("frames_chat", _RECIPE, model="llava-hf/llava-1.5-7b-hf")

if __name__ == "__main__":
    main()
