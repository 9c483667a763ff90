"""Calls a scoring service (`svgrl serve-rewards`). Standard library only; Python 3.9 or newer.

The address and the token come from the arguments, else from SVGRL_REWARD_URL and
SVGRL_REWARD_TOKEN. A busy or restarting service is asked again after growing pauses; what it
refuses (a wrong row, a wrong token) is an error at once.
"""

import base64
import io
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

DEFAULT_URL = "http://127.0.0.1:8700"
AGAIN = (408, 425, 429, 500, 502, 503, 504)
LATE = "service_deadline"
# What Pillow calls the kinds of pictures that it can write as PNG.
PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")


class ServiceError(RuntimeError):
    """The service refused a request, or stayed away."""


class TooMuch(ServiceError):
    """The service takes fewer rows, or bytes, in one request."""


class Client:
    def __init__(self, url=None, token=None, timeout=120.0, retries=8, batch=256):
        self.url = (url or os.environ.get("SVGRL_REWARD_URL") or DEFAULT_URL).rstrip("/")
        self.token = token or os.environ.get("SVGRL_REWARD_TOKEN")
        self.timeout, self.retries, self.batch = timeout, retries, batch
        handlers = [urllib.request.ProxyHandler({})] if _is_local(self.url) else []
        self._open = urllib.request.build_opener(*handlers).open
        self._parts = None

    def score(self, rows):
        """Judges rows {"completion", "reference", "task"?, "prompt"?, "truncated"?, "step"?}; answers
        in order with {"total", "parts", "valid", "reason", "render_ms", "reward"}."""
        rows, answers = list(rows), []
        while len(answers) < len(rows):
            some = rows[len(answers) : len(answers) + self.batch]
            try:
                answers += self._batch(some)
            except TooMuch:
                if len(some) == 1:
                    raise
                self.batch = len(some) // 2
        return answers

    def parts(self):
        """The names of all tasks' parts, each once."""
        if self._parts is None:
            tasks = self._call("/health").get("parts", {})
            self._parts = list(dict.fromkeys(name for names in tasks.values() for name in names))
        return self._parts

    def _batch(self, rows):
        answers = [None] * len(rows)
        waiting, tries = list(range(len(rows))), self.retries
        while waiting:
            # Answered before the connection is given up, if not whole.
            patience = max(1, int((self.timeout - 1) * 1000))
            body = {"items": [rows[i] for i in waiting], "deadline_ms": patience, "last_try": tries == 0}
            got = self._call("/score_batch", body)["items"]
            if len(got) != len(waiting):
                raise ServiceError(f"{self.url}: {len(waiting)} rows were sent, {len(got)} came back")
            for i, answer in zip(waiting, got):
                answers[i] = answer
            # These waited too long at the service; the completions are not at fault.
            late = [i for i in waiting if (answers[i]["reason"] or "").startswith(LATE)]
            if len(late) == len(waiting):
                if tries == 0:
                    raise ServiceError(
                        f"{self.url}: {len(late)} completions were not judged in time however often they were "
                        f"sent (raise rewards.service.deadline_ms there): {answers[late[0]]['reason']}"
                    )
                tries -= 1
            waiting = late
        return answers

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        for tried in range(self.retries + 1):
            request = urllib.request.Request(self.url + path, data, headers)
            pause = 0.2 * 2**tried
            try:
                with self._open(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                problem = f"{self.url}{path}: status {error.code}: {_said(error)}"
                if error.code not in AGAIN:
                    raise (TooMuch if error.code == 413 else ServiceError)(problem) from None
                pause = max(pause, _seconds(error.headers.get("Retry-After")))
            except (OSError, ValueError) as error:
                problem = f"{self.url}{path}: {error}"
            if tried < self.retries:
                time.sleep(min(pause, 15.0))
        raise ServiceError(problem)


_CLIENTS = {}


def client(**settings):
    """One client for each setting, made on first use."""
    key = tuple(sorted(settings.items()))
    if key not in _CLIENTS:
        _CLIENTS[key] = Client(**settings)
    return _CLIENTS[key]


def split(label):
    """A dataset's label as (reference, task): a dict or JSON of the reference's keys and `task`, or a
    string that is the reference SVG or text itself."""
    if isinstance(label, str) and label.lstrip().startswith("{"):
        try:
            label = json.loads(label)
        except ValueError as error:
            said = f'label: begins with a brace and is no JSON: {error} (words go into {{"text": ..}})'
            raise ServiceError(said) from None
    if label is None:
        return {}, None
    if isinstance(label, str):
        return ({"svg": label} if "<svg" in label else {"text": label}), None
    if not isinstance(label, Mapping):
        raise ServiceError(f"label: must be a dict, the same as JSON, or a string, got {type(label).__name__}")
    label = dict(label)
    task = label.pop("task", None)
    reference = label.pop("reference", None)
    reference = label if reference is None else reference
    reference = {k: v for k, v in reference.items() if v is not None}
    if "image" in reference:
        reference["image"] = _picture(reference["image"])
    return reference, task


def _picture(image):
    """A picture as the service takes it: a string stays; a PNG's or a JPEG's bytes (as `datasets` keeps them or
    names their file, too) and pictures of Pillow become base64."""
    if isinstance(image, dict) and image.get("bytes") is not None:
        image = image["bytes"]
    elif isinstance(image, dict) and image.get("path"):
        with open(image["path"], "rb") as file:
            image = file.read()
    if hasattr(image, "save"):
        if getattr(image, "mode", "RGB") not in PNG_MODES:
            image = image.convert("RGB")
        written = io.BytesIO()
        image.save(written, "PNG")
        image = written.getvalue()
    if isinstance(image, (bytes, bytearray)):
        kind = "data:image/jpeg;base64," if image[:2] == b"\xff\xd8" else ""
        image = kind + base64.b64encode(image).decode()
    return image


def text(message):
    """The words of a prompt or completion: a string, or a chat's last message (a list, or what parquet makes
    of one)."""
    if hasattr(message, "tolist"):
        message = message.tolist()
    if isinstance(message, str):
        return message
    if isinstance(message, (list, tuple)):
        return text(message[-1]) if len(message) else ""
    content = message.get("content", "") if isinstance(message, dict) else ""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


def row(completion, label, **rest):
    """A row for `Client.score`; keys that are None are left out."""
    reference, task = split(label)
    made = {"completion": text(completion), "reference": reference, "task": task, **rest}
    return {k: v for k, v in made.items() if v is not None}


def _said(error):
    try:
        return json.load(error)["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason


def _seconds(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _is_local(url):
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
