"""The one place where generated text is cleaned before it is scored."""

import re

# Control tokens as the model families' own tokenizer files spell them. A list and no pattern like
# `<.*?>`: an answer may hold "<5 mg>" or HTML, and `<loc0123>`, `<seg012>`, `<box>` are answers.
_SPECIAL_TOKENS = (
    # Gemma, PaliGemma, LLaVA, Mistral, Idefics, SmolVLM, Florence
    *("<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<image>"),
    *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"),
    *("<image_soft_token>", "<fake_token_around_image>", "<end_of_utterance>"),
    # Qwen, InternVL, Phi, GLM, Molmo
    *("<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "<|end|>", "<|pad|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|image|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|begin_of_image|>", "<|end_of_image|>"),
    # Llama
    *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|finetune_right_pad_id|>"),
    # DeepSeek: fullwidth bars and lower one-eighth blocks
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_SPECIAL = "|".join(map(re.escape, _SPECIAL_TOKENS))
_SPECIAL_TOKEN = re.compile(_SPECIAL)
# White space, special tokens and role tags, as far as they go. A role's name is a tag only with a
# marker before it, a colon or a line break after it; a line break with nothing but special tokens
# behind it ends an answer that is the word itself.
_OPENING = re.compile(
    rf"""(?: \s
    | \[/INST\]
    | (?: <\|im_start\|> | <start_of_turn> | <\|start_header_id\|> ) \s*
      (?: assistant | model ) (?= [\s:<] | \Z ) :?
    | (?: {_SPECIAL} )
    | (?i: assistant ) (?: : | [ \t]* \r?\n (?= (?: \s | {_SPECIAL} )*+ \S ) )
    )*""",
    re.VERBOSE,
)


def clean_text(raw: str) -> str:
    """Take off what the chat format of a model family left on an answer.

    Special tokens are dropped wherever they stand (a space takes their place), role tags
    ("ASSISTANT:", "<start_of_turn>model", "[/INST]", ...) only before the answer; runs of white
    space, line breaks included, become one space. Case, punctuation and location tokens stay.
    Cleaning a cleaned text changes nothing.
    """
    opening = _OPENING.match(raw)
    assert opening  # it matches the empty string too
    return " ".join(_SPECIAL_TOKEN.sub(" ", raw[opening.end() :]).split())
