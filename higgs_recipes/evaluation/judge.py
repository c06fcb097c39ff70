"""A judge of speech: a model at an OpenAI-compatible endpoint hears two clips of a text and says which is better."""

import base64
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from higgs_recipes.errors import InputError, import_module, shown
from higgs_recipes.files import atomic_write


logger = logging.getLogger(__name__)

INSTALL = "pip install 'openai>=3.57,<4'"
CONCURRENCY = 8  # requests at once
MAX_RETRIES = 6  # after 429, 5xx and timeouts; the client waits as the endpoint asks, else exponentially longer
MAX_TOKENS = 4096
MAX_EXCERPT = 300  # characters of an answer that is kept in metrics.json
FATAL_STATUS = (401, 403, 404)  # no other request would be answered either
INVALID_STATUS = (400, 422)  # nor here, unless the endpoint has answered others and refuses one text

SYSTEM = (
    "You compare two recordings of synthetic speech of the same text. Judge only what the instruction asks for, not "
    "the voice, the gender, the recording quality or background noise."
)
INSTRUCTION = """Two systems spoke this text:

<text>
{text}
</text>

Category: {category}
What to judge: {criterion}

Listen to both recordings, note for each where it succeeds and where it fails, and give each a score: 0 (does not \
speak the text), 1 (fails at what is judged), 2 (partly succeeds), 3 (succeeds throughout). Then name the winner; if \
no difference would matter to a listener, it is a tie.

Answer with one JSON object and nothing else:
{{"reasoning": "...", "score_1": 0 to 3, "score_2": 0 to 3, "winner": 1, 2, or 0 for a tie}}

Recording 1:"""
SECOND = "Recording 2:"

CRITERIA = {
    "Emotions": "quoted speech has the emotion that the context implies, and stands out from the narration.",
    "Paralinguistics": "interjections, sounds, stress, long syllables, stutters and pauses are spoken as written.",
    "Syntactic Complexity": "phrasing, pauses and stress make the structure of the sentences clear.",
    "Foreign Words": "foreign words are pronounced as a bilingual speaker would, without breaking the flow.",
    "Questions": "questions and statements have the intonation that fits each.",
    "Pronunciation": "numbers, dates, addresses, formulas, acronyms and tongue twisters are read precisely.",
}
GENERAL_CRITERION = "the text is spoken naturally, completely and with fitting expression."


@dataclass(frozen=True)
class Pair:
    """Two recordings (wav files) of a text, in the order in which the judge gets them."""

    text: str
    category: str
    first: bytes
    second: bytes


@dataclass(frozen=True)
class Judgment:
    """A valid answer: scores from 0 to 3, and the winner: 1, 2, or 0 for a tie."""

    score_1: int
    score_2: int
    winner: int


@dataclass(frozen=True)
class Failure:
    """No judgment: an answer that cannot be parsed, or none at all."""

    kind: Literal["unparsed", "no_answer"]
    detail: str


class Judge:
    """A judge at temperature 0. Answers are kept in a folder, so that no pair is paid for twice.

    Args:
        model: its name at the endpoint.
        url: base URL of the endpoint.
        key_variable: environment variable with the API key.
        seconds: timeout of one request.
        folder: of the answers.

    Raises:
        InputError: the package openai is missing, or the variable is not set.
    """

    def __init__(self, model: str, *, url: str, key_variable: str, seconds: float, folder: Path) -> None:
        self.openai = import_module("openai", needed_by="judge", install=INSTALL)
        if not os.environ.get(key_variable):
            raise InputError(f"judge: set the environment variable {key_variable} to the API key of {url}")
        self.model, self.url, self.folder = model, url, folder
        self._key, self._has_answered = os.environ[key_variable], False
        self.client = self.openai.OpenAI(base_url=url, api_key=self._key, timeout=seconds, max_retries=MAX_RETRIES)

    def compare(self, pairs: Sequence[Pair]) -> list[Judgment | Failure]:
        """Judge each pair.

        Raises:
            InputError: the endpoint cannot be reached, rejects the key or the requests, or has no such model; or no
                pair was answered.
        """
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            answers = list(pool.map(self._answer, pairs))
        unanswered = [answer for answer in answers if isinstance(answer, Failure) and answer.kind == "no_answer"]
        if pairs and len(unanswered) == len(pairs):
            raise InputError(f"judge {self.model}: none of {len(pairs)} pairs was answered: {unanswered[0].detail}")
        return [answer if isinstance(answer, Failure) else parse_answer(answer) for answer in answers]

    def _answer(self, pair: Pair) -> str | Failure:
        messages = _messages(pair)
        digest = sha256(json.dumps([self.model, self.url, messages]).encode()).hexdigest()[:32]
        path = self.folder / f"judge-{digest}.json"
        if path.is_file():
            self._has_answered = True
            return json.loads(path.read_text(encoding="utf-8"))
        answer = self._ask(messages)
        if not isinstance(answer, Failure):
            atomic_write(path, json.dumps(answer))
        return answer

    def _ask(self, messages: list[dict[str, Any]]) -> str | Failure:
        try:
            response = self.client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, temperature=0, max_tokens=MAX_TOKENS
            )
        except self.openai.APITimeoutError:
            return Failure("no_answer", "timeout")
        except self.openai.APIConnectionError as error:
            raise InputError(f"judge: {self.url} cannot be reached: check judge_url and the connection") from error
        except self.openai.APIStatusError as error:
            status = error.status_code
            reason = shown(error.response.text.replace(self._key, "***"), limit=MAX_EXCERPT)
            if status in FATAL_STATUS or (status in INVALID_STATUS and not self._has_answered):
                raise InputError(
                    f"judge: {self.url} answered {status} for model {self.model}: check judge, judge_url and the key; "
                    f"it says {reason}"
                ) from error
            return Failure(
                "no_answer", f"status {status}: {reason}" if status in INVALID_STATUS else f"status {status}"
            )
        self._has_answered = True
        return _content(response.http_response.text)


def _content(body: str) -> str | Failure:
    """The text of a completion. Not every endpoint that calls itself compatible sends one."""
    try:
        message = json.loads(body)["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return Failure("no_answer", "not a chat completion")
    content = message["content"] if isinstance(message, dict) and "content" in message else None
    return content if isinstance(content, str) else Failure("unparsed", "no text")


def _messages(pair: Pair) -> list[dict[str, Any]]:
    criterion = CRITERIA[pair.category] if pair.category in CRITERIA else GENERAL_CRITERION
    instruction = INSTRUCTION.format(text=pair.text, category=pair.category, criterion=criterion)
    content = [_text(instruction), _audio(pair.first), _text(SECOND), _audio(pair.second)]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _audio(wav: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}}


def parse_answer(answer: str) -> Judgment | Failure:
    """Read the last JSON object of an answer that has the three fields, with or without text around it.

    >>> parse_answer('Fine. ```json {"score_1": 3, "score_2": 1, "winner": 1}```')
    Judgment(score_1=3, score_2=1, winner=1)
    >>> parse_answer('{"score_1": 3, "score_2": 1, "winner": "both"}').kind
    'unparsed'
    """
    decoder, start, judgment = json.JSONDecoder(), answer.find("{"), None
    while start >= 0:
        try:
            found, length = decoder.raw_decode(answer[start:])
            judgment = _judgment(found) or judgment
        except (ValueError, RecursionError):
            length = 1
        start = answer.find("{", start + length)
    return judgment or Failure("unparsed", answer[:MAX_EXCERPT])


def _judgment(found: Any) -> Judgment | None:
    if not isinstance(found, Mapping):
        return None
    values = [found.get(field) for field in ("score_1", "score_2", "winner")]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return None
    score_1, score_2, winner = values
    if score_1 not in range(4) or score_2 not in range(4) or winner not in range(3):
        return None
    return Judgment(score_1, score_2, winner)
