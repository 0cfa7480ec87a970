"""Score a model: `python eval.py --task vqav2 --model_path runs/vqav2 --data_root DIR`."""

from palitune.evaluate import evaluate_command

main = evaluate_command()

if __name__ == "__main__":
    main()
