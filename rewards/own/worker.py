"""Calls a function with batches of rows: a line of JSON in, a line out. Arguments: its file, its name.

What the function prints goes to standard error."""

import base64
import importlib.util
import json
import math
import os
import sys
import traceback


def sentence(error):
    """An exception and the last line of the file that it came from."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) > 1:
        text += " (%s, line %s)" % (frames[-1].filename, frames[-1].lineno)
    return text


def load(path, name):
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError("%s is no function" % name)
    return found


def plain(value):
    """A number, named numbers, or nothing, as JSON has them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    number = float(value)
    return number if math.isfinite(number) else {"error": "the score is %s" % number}


def answers(function, rows):
    for row in rows:
        if "png" in row:
            row["png"] = base64.b64decode(row["png"])
    found = function(rows)
    return [plain(each) for each in found]


def main():
    path, name = sys.argv[1:3]
    source = os.fdopen(os.dup(0), encoding="utf-8")
    target = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def say(value):
        target.write(json.dumps(value) + "\n")
        target.flush()

    try:
        function = load(path, name)
    except BaseException as error:
        say({"error": sentence(error)})
        return 1
    say({"ready": True})
    for line in source:
        try:
            answer = answers(function, json.loads(line))
        except Exception as error:
            answer = {"error": sentence(error)}
        say(answer)
    return 0


sys.exit(main())
