"""The official rules as their scripts go about them: question by question, in plain Python.

    python benchmarks/metrics_plain.py TASK FOLDER FILE

Called by `metrics.py`, whose other side must find the same figures. Nothing of ours is imported,
and nothing but the standard library. Written from the rules of
https://github.com/GT-Vision-Lab/VQA (VQA accuracy), https://rrc.cvc.uab.es/?ch=17&com=tasks (ANLS)
and https://cs.stanford.edu/people/dorarad/gqa/evaluate.html (GQA).
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Lists = dict[str, list[float]]
Counts = dict[str, dict[str, int]]
Tables = dict[str, dict[str, float]]  # "metrics" and the name of each breakdown -> its figures

MARKS = ';/[]"{}()=+\\_-><@`,?!'
NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(NUMBER_WORDS.split())}
CONTRACTION_FAMILIES = """
Xnt = Xn't: ai are ca could did does do had has have is might must need ought sha should was
Xnt = Xn't: were wo would
Xnt've Xn'tve = Xn't've: could had might should would
Xve = X've: could might must not should they we what where who would you I
Xd = X'd: he how it someone something there they where who you
Xd've X'dve = X'd've: he I it she somebody someone something there they we who you
Xll = X'll: how it somebody someone something they what who why you
Xre = X're: there they what why you
Xs = X's: he how somebody someone that there what when where who why
X's = X's: let she
Xm = X'm: I
Xam = X'am: ma
Xclock = X'clock: o
Xwas = 'Xwas: t
Xall = X'all: y
Xall'll X'allll = X'all'll: y
Xall'd've X'alld've X'all'dve = X'all'd've: y
X's'at 'Xs'at 'X'sat = 'X's'at: ow
X'd = Xd: somebody
"""  # spellings = what they become: the words that X stands for


def expand_contractions() -> dict[str, str]:
    """Return the spelling -> contraction, as the official script lists them one by one."""
    table = {}
    for line in CONTRACTION_FAMILIES.strip().splitlines():
        forms, words = line.split(": ")
        spellings, contraction = forms.split(" = ")
        for word in words.split():
            for spelling in spellings.split():
                table[spelling.replace("X", word)] = contraction.replace("X", word)
    return table


CONTRACTIONS = expand_contractions()


def score_vqav2(folder: Path) -> Tables:
    """Score by VQA accuracy, in percent, also by type of answer and of question."""
    questions = read(folder / "v2_OpenEnded_mscoco_val2014_questions.json")["questions"]
    annotations = read(folder / "v2_mscoco_val2014_annotations.json")["annotations"]
    predictions = {r["question_id"]: r["answer"] for r in read(folder / "predictions.json")}
    annotation_by_id = {annotation["question_id"]: annotation for annotation in annotations}
    accuracies = []
    tables = new_tables("answer_type", "question_type")
    for question in questions:
        key = question["question_id"]
        annotation = annotation_by_id[key]
        answers = [record["answer"] for record in annotation["answers"]]
        accuracies.append(100 * vqa_accuracy(predictions[key], answers))
        for tag, table in tables.items():
            table[annotation[tag]].append(accuracies[-1])
    return {"metrics": {"vqa_accuracy": mean(accuracies)}, **means(tables)}


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the mean over the ten ways of leaving one answer out: min(1, equal others / 3)."""
    cleaned = [tidy(answer) for answer in answers]
    prediction = tidy(prediction)
    if len(set(cleaned)) > 1:
        cleaned = [map_words(strip_punctuation(answer)) for answer in cleaned]
        prediction = map_words(strip_punctuation(prediction))
    accuracies = []
    for left_out in range(len(cleaned)):
        others = [answer for index, answer in enumerate(cleaned) if index != left_out]
        equal = [answer for answer in others if answer == prediction]
        accuracies.append(min(1.0, len(equal) / 3))
    return mean(accuracies)


def tidy(text: str) -> str:
    """Turn line breaks and tabs into spaces; leave none at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    """Drop each mark, or put a space where it stands between characters only."""
    result = text
    for mark in MARKS:
        if mark + " " in text or " " + mark in text or re.search("[0-9],[0-9]", text):
            result = result.replace(mark, "")
        else:
            result = result.replace(mark, " ")
    return re.sub(r"\.(?![0-9])", "", result, count=32)


def map_words(text: str) -> str:
    """Lower the case; write number words as digits; drop articles; put apostrophes in."""
    words = []
    for word in text.lower().split():
        word = NUMBERS.get(word, word)
        if word not in ("a", "an", "the"):
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


def score_docvqa(folder: Path) -> Tables:
    """Score by ANLS and exact matches, 0 to 1; ANLS also by type of question."""
    records = read(folder / "val_v1.0_withQT.json")["data"]
    predictions = {r["questionId"]: r["answer"] for r in read(folder / "predictions.json")}
    scores = []
    matches = []
    tables = new_tables("question_type")
    for record in records:
        prediction, answers = predictions[record["questionId"]], record["answers"]
        scores.append(anls(prediction, answers))
        matches.append(prediction.lower().strip() in [a.lower().strip() for a in answers])
        for kind in record["question_types"]:
            tables["question_type"][kind].append(scores[-1])
    return {"metrics": {"anls": mean(scores), "accuracy": mean(matches)}, **means(tables)}


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return one minus the least distance over the longer raw text; 0 where under a half."""
    distances = []
    for answer in answers:
        length = max(len(answer.upper()), len(prediction.upper()))
        first, second = (" ".join(text.strip().lower().split()) for text in (answer, prediction))
        distances.append(levenshtein(first, second) / length if length else 0.0)
    similarity = 1 - min(distances)
    return similarity if similarity >= 0.5 else 0.0


def levenshtein(first: str, second: str) -> int:
    """Count the edits from one text to the other, by two rows of the table."""
    above = list(range(len(second) + 1))
    for row, left in enumerate(first, start=1):
        current = [row]
        for column, right in enumerate(second):
            if left == right:
                current.append(above[column])
            else:
                current.append(1 + min(above[column], above[column + 1], current[column]))
        above = current
    return above[-1]


def score_gqa(folder: Path) -> Tables:
    """Score by every metric but grounding, over the balanced questions; accuracy by four tables."""
    questions = read(folder / "val_all_questions.json")
    choices = read(folder / "val_choices.json")
    predictions = {r["questionId"]: r["prediction"] for r in read(folder / "predictions.json")}
    scores: Lists = defaultdict(list)
    tables = new_tables("structural", "semantic", "words", "steps")
    gold: Counts = defaultdict(lambda: defaultdict(int))
    predicted: Counts = defaultdict(lambda: defaultdict(int))
    for key, question in questions.items():
        if not question["isBalanced"]:
            continue
        prediction, types = predictions[key], question["types"]
        score = 100.0 * (prediction == question["answer"])
        scores["accuracy"].append(score)
        scores["open" if types["structural"] == "query" else "binary"].append(score)
        for figure, scope in (("validity", "valid"), ("plausibility", "plausible")):
            is_common = "Common" in types["detailed"]
            allowed = ("color", "material", "shape") if is_common else choices[key][scope]
            scores[figure].append(100.0 * (prediction in allowed))
        entailed = [other for other in question["entailed"] if other != key]
        if score and entailed:
            follows = [predictions[other] == questions[other]["answer"] for other in entailed]
            scores["consistency"].append(100 * mean(follows))
        for tag, kind in (
            ("structural", types["structural"]),
            ("semantic", types["semantic"]),
            ("words", str(len(question["question"].split()))),
            ("steps", str(num_steps(question["semantic"]))),
        ):
            tables[tag][kind].append(score)
        group = question["groups"]["global"]
        if group is not None:
            gold[group][question["answer"]] += 1
            predicted[group][prediction] += 1
    metrics = {figure: mean(values) for figure, values in scores.items()}
    return {"metrics": metrics | {"distribution": distribution(gold, predicted)}, **means(tables)}


def num_steps(program: Sequence[dict[str, Any]]) -> int:
    """Count a question's operations, those that only ask whether and for the name apart."""
    count = 0
    for step in program:
        text = f"{step['operation']}: {step['argument']}"
        if not any(mark in text for mark in ("exist", "query: name", "choose name")):
            count += 1
    return count


def distribution(gold: Counts, predicted: Counts) -> float:
    """Return the chi-square of each group's answers, weighted by the group's size, over 100."""
    weighted = size = 0.0
    for group, counts in gold.items():
        chi_square = 0.0
        for answer, expected in counts.items():
            chi_square += (predicted[group][answer] - expected) ** 2 / expected
        weighted += chi_square * sum(counts.values())
        size += sum(counts.values())
    return weighted / size / 100


def read(path: Path) -> Any:
    """Load a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def mean(values: Sequence[float]) -> float:
    """Return the average."""
    return sum(values) / len(values)


def new_tables(*tags: str) -> dict[str, Lists]:
    """Make an empty table for each tag: kind -> scores."""
    return {tag: defaultdict(list) for tag in tags}


def means(tables: dict[str, Lists]) -> Tables:
    """Return for each tag: kind -> mean score."""
    return {tag: {kind: mean(table[kind]) for kind in table} for tag, table in tables.items()}


SCORERS = {"vqav2": score_vqav2, "gqa": score_gqa, "docvqa": score_docvqa}

if __name__ == "__main__":
    tables = SCORERS[sys.argv[1]](Path(sys.argv[2]))
    content = {"metrics": tables.pop("metrics"), "breakdown": tables}
    Path(sys.argv[3]).write_text(json.dumps(content), encoding="utf-8")
