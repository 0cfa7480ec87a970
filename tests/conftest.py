"""Pico models: real PaliGemma classes at random tiny sizes, made on the spot."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # a mistake must fail at once, not after retries
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where every test must run, as in CI, a skipped one is a failure (see .ci/run)."""
    skipped = terminalreporter.stats.get("skipped", [])
    if os.environ.get("PALITUNE_NO_SKIPS") and skipped:
        terminalreporter.write_line(f"{len(skipped)} skipped, none is allowed here", red=True)
        pytest.exit("tests were skipped", returncode=1)


def make_pico(folder: Path, text_model: str, seed: int = 0) -> Path:
    """Save a random PaliGemma of about 0.4 M parameters with the embedded model's processor."""
    import torch
    from transformers import AutoProcessor, PaliGemmaConfig, PaliGemmaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(REPOSITORY / "models" / "tiny")
    tokenizer = processor.tokenizer
    vocabulary = -(-len(tokenizer) // 64) * 64
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text_config = {
        "model_type": text_model,
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 512,
        **special,
    }
    if text_model == "gemma2":  # low enough for the caps to matter
        text_config |= {"sliding_window": 16, "query_pre_attn_scalar": 32}
        text_config |= {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0}
    vision_config = {
        "model_type": "siglip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "projection_dim": 64,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_index=processor.image_token_id,
        projection_dim=64,
        hidden_size=64,
        vocab_size=vocabulary,
        **special,
    )
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:  # the library's 0.02 leaves all logits nearly equal
            torch.nn.init.normal_(parameter, std=0.02 if "embed_tokens" in name else 0.15)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The embedded data is written once for all tests, and never into the user's own cache.

    The processes of pytest-xdist share it: a set of data appears whole or not at all.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each process has a folder of its own in that
        folder = folder.parent
    os.environ["PALITUNE_CACHE"] = str(folder / "cache")


@pytest.fixture(scope="session", params=["gemma", "gemma2"], ids=["paligemma1", "paligemma2"])
def pico(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pico PaliGemma, of the first and of the second generation."""
    return make_pico(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def pico1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pico PaliGemma of the first generation."""
    return make_pico(tmp_path_factory.mktemp("pico1"), "gemma")
