"""Many runs from one file: the ablation grid and the four-step pipeline."""
