"""LoRA adapters in, one adapter or one full model out."""
