"""Merge adapters: `python merge_vlm.py --base_model B --model_a A --model_b A2 --output OUT`."""

from palitune.merge import merge_command

main = merge_command()

if __name__ == "__main__":
    main()
