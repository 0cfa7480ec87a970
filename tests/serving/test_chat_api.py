"""The chat interface answers as `palitune predict` does, counts tokens, and refuses the rest."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from tasks.registry import get_task
from tests.serving.served import NAMES, QUESTION, Served, predict

CHAT = "/v1/chat/completions"


def uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def messages(url: str, text: str = QUESTION) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def test_each_model_answers_as_predict_does_whichever_answered_before(served: Served) -> None:
    expected = [predict(served.image, model) for model in served.models]
    assert len(set(expected)) == 3
    for place in (0, 1, 2, 1, 0, 2, 0):
        asked = {"model": NAMES[place], "messages": messages(uri(served.image))}
        status, text = served.ask(CHAT, asked)
        (choice,) = json.loads(text)["choices"]
        assert status == 200
        assert choice["message"] == {"role": "assistant", "content": expected[place]}


def test_several_images_are_asked_about_in_their_order(served: Served, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 48), "yellow").save(other)
    folder = served.models[0]
    processor = AutoProcessor.from_pretrained(folder)
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    for files in ([served.image, other], [other, served.image]):
        parts = [{"type": "image_url", "image_url": {"url": uri(file)}} for file in files]
        asked = [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]
        status, text = served.ask(CHAT, {"model": "base", "messages": asked})
        found = json.loads(text)
        inputs = processor(
            text=f"<image><image>answer en {QUESTION}",
            images=[[Image.open(file).convert("RGB") for file in files]],
            return_tensors="pt",
        )
        with torch.no_grad():
            output = model.generate(
                **inputs, max_new_tokens=get_task("vqav2").max_new_tokens, do_sample=False
            )
        num_prompt = inputs["input_ids"].shape[1]
        written = processor.decode(output[0, num_prompt:], skip_special_tokens=True)
        assert (status, found["usage"]["prompt_tokens"]) == (200, num_prompt)
        answer = found["choices"][0]["message"]["content"]
        assert answer == get_task("vqav2").clean(written)


@pytest.mark.parametrize("num_of_user", [0, 1])
@pytest.mark.parametrize("role", ["assistant", "system"])
def test_none_but_the_user_shows_an_image(role: str, num_of_user: int, served: Served) -> None:
    image = {"type": "image_url", "image_url": {"url": uri(served.image)}}
    asked = [
        {"role": "user", "content": [*[image] * num_of_user, {"type": "text", "text": "what?"}]},
        {"role": role, "content": [image]},
        {"role": "user", "content": "and?"},
    ]
    asked = asked[role == "system" :]
    status, text = served.ask(CHAT, {"model": "base", "messages": asked})
    assert status == 400
    assert "shown by a message of role user alone" in json.loads(text)["error"]["message"]


def test_models_are_listed(served: Served) -> None:
    status, text = served.ask("/v1/models")
    assert status == 200
    assert [row["id"] for row in json.loads(text)["data"]] == list(NAMES)


@pytest.mark.parametrize("most", [None, 2])
def test_tokens_are_counted_as_the_library_counts_them(served: Served, most: int | None) -> None:
    folder = served.models[0]
    processor = AutoProcessor.from_pretrained(folder)
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    text = f"<image>answer en {QUESTION}"
    inputs = processor(text=text, images=Image.open(served.image), return_tensors="pt")
    with torch.no_grad():
        output = model.generate(
            **inputs, max_new_tokens=most or get_task("vqav2").max_new_tokens, do_sample=False
        )
    num_prompt = inputs["input_ids"].shape[1]
    written = output[0, num_prompt:]
    asked = {"model": "base", "messages": messages(uri(served.image))}
    _, text = served.ask(CHAT, asked if most is None else asked | {"max_tokens": most})
    found = json.loads(text)
    assert found["usage"] == {
        "prompt_tokens": num_prompt,
        "completion_tokens": len(written),
        "total_tokens": num_prompt + len(written),
    }
    ended = int(written[-1]) == processor.tokenizer.eos_token_id
    assert found["choices"][0]["finish_reason"] == ("stop" if ended else "length")


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"model": "none"}, 404, "There is no model none; there are base, one/run, two/run."),
        ({"stream": True}, 400, "not streamed"),
        ({"temperature": 0.5}, 400, "leave out n and temperature"),
        ({"n": 2}, 400, "leave out n and temperature"),
        ({"max_tokens": 0}, 400, "$.max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, 400, "give one of them"),
        ({"max_tokens": 1, "model": "one/run"}, 400, "one/run writes 2 tokens at least"),
        ({"system": ""}, 400, "The system message is empty"),
        ({"tools": []}, 400, "unknown field `tools`"),
        ({"messages": []}, 400, "$.messages"),
        ({"messages": [{"role": "user", "content": "hi"}]}, 400, "several, and none is given"),
        ({"messages": messages("https://example.com/a.png")}, 400, "no address is fetched"),
        ({"messages": messages("file:///etc/hostname")}, 400, "no address is fetched"),
        ({"messages": messages("data:image/png;base64,?")}, 400, "base64 is cut or damaged"),
        ({"messages": messages("data:image/png;base64,AAAA")}, 400, "not an image"),
        ({"text": ""}, 400, "asks a question: give it as text of the last message"),
        ({"text": "why " * 200}, 400, "over the 64 text tokens"),
        ({"more": [{"role": "assistant", "content": "red"}]}, 400, "last message must be of role"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(
    change: dict[str, Any], status: int, expected: str, served: Served
) -> None:
    asked = {"model": "base", "messages": messages(uri(served.image), change.pop("text", QUESTION))}
    asked["messages"] += change.pop("more", [])
    if "system" in change:
        asked["messages"].insert(0, {"role": "system", "content": change.pop("system")})
    found, text = served.ask(CHAT, asked | change)
    error = json.loads(text)["error"]
    assert (found, error["type"]) == (status, "invalid_request_error")
    assert expected in error["message"] and error["message"].endswith(".")
    assert served.ask(CHAT, {"model": "base", "messages": messages(uri(served.image))})[0] == 200


def test_a_temperature_of_0_draws_nothing(served: Served, tmp_path: Path) -> None:
    drawing = served.models[2]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).symlink_to(drawing / name)
    record = json.loads((drawing / "run.json").read_text())
    record["settings"]["do_sample"] = False
    (tmp_path / "run.json").write_text(json.dumps(record))
    greedy = predict(served.image, tmp_path)
    assert greedy != predict(served.image, drawing)
    asked = {"model": NAMES[2], "messages": messages(uri(served.image)), "temperature": 0}
    _, text = served.ask(CHAT, asked)
    assert json.loads(text)["choices"][0]["message"]["content"] == greedy


def test_the_answer_to_a_client_that_left_is_ended(served: Served) -> None:
    asked = {"model": "base", "messages": messages(uri(served.image))}
    left = served.begin(CHAT, asked | {"max_tokens": 10**6})
    with pytest.raises(TimeoutError):
        left.getresponse()
    left.close()
    assert served.ask(CHAT, asked)[0] == 200


def test_an_image_over_the_limit_is_refused_and_not_decoded(served: Served, tmp_path: Path) -> None:
    # a bit a pixel: a small file of 14,000 x 14,000 = 196 million pixels
    Image.new("1", (14_000, 14_000)).save(tmp_path / "huge.png")
    asked = {"model": "base", "messages": messages(uri(tmp_path / "huge.png"))}
    status, text = served.ask(CHAT, asked)
    assert status == 400
    assert "more than 178,956,970 pixels" in json.loads(text)["error"]["message"]


def test_what_is_no_json_is_refused(served: Served) -> None:
    status, text = served.ask(CHAT, b"\xff")
    assert status == 400
    assert "cannot be taken" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/", "/gradio_api/info", CHAT])
@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1:1"}, {"Origin": "http://evil.example"}],
    ids=str,
)
def test_other_sites_are_kept_out(path: str, headers: dict[str, str], served: Served) -> None:
    asked = {"model": "base", "messages": messages(uri(served.image))} if path == CHAT else None
    status, text = served.ask(path, asked, headers)
    assert status == 403
    assert NAMES[1] not in text
    own = {"Host": served.url.removeprefix("http://"), "Origin": served.url}
    assert served.ask(path, asked, own)[0] == 200


def test_no_other_site_may_read_an_answer(served: Served) -> None:
    assert served.ask("/v1/models", headers={"Origin": "null"})[0] == 403
