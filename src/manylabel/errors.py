"""The errors a user can cause, and the one way their sentences are built.

A `ManylabelError` is a message for a person: exit code 2 and no traceback on the command line, a 4xx answer in a
server. Our own bugs are `assert`s and ordinary exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MAX_LISTED = 8
"""How many names or problems one message lists before it says how many more there are."""


class ManylabelError(Exception):
    """Something a person can put right: the message says where, what is wrong and what to do."""


class DataError(ManylabelError):
    """A table, a folder or a label that cannot be used."""


class ConfigError(ManylabelError):
    """An option that does not exist, or whose value makes no sense."""


class BundleError(ManylabelError):
    """A model that is damaged, incomplete or does not fit."""


class RunError(ManylabelError):
    """A run folder that cannot be written, resumed or read."""


class MissingExtraError(ManylabelError, ImportError):
    """A part of manylabel needs libraries that were not installed with it."""


def explain_missing_module(error: ModuleNotFoundError) -> ImportError:
    """Return the error to show for a library that is not installed: which extra brings it, if one of ours does."""
    library = (error.name if error.name is not None else "").split(".")[0]
    if library in _EXTRA_OF_LIBRARY:
        extra = _EXTRA_OF_LIBRARY[library]
        install = f"Install it with: pip install 'manylabel[{extra}]'"
        return MissingExtraError(build_message("", f"this needs {library}, which is not installed", do=install))
    return error


_EXTRA_OF_LIBRARY = {
    **dict.fromkeys(
        ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx", "onnxscript", "sklearn", "captum"),
        "train",
    ),
    "optuna": "search",
    **dict.fromkeys(("fastapi", "starlette", "pydantic", "uvicorn", "httptools", "python_multipart"), "serve"),
}


def find_reason(error: BaseException) -> str:
    """Return the first line of what an error says, or its class where it says nothing.

    Example:
        >>> find_reason(ValueError("no such shape\\nat line 3")), find_reason(KeyError())
        ('no such shape', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def build_message(where: object, problem: str, *, got: object = None, expected: str = "", do: str = "") -> str:
    """Return one sentence that says where, what is wrong, what was got, what was expected and what to do.

    Args:
        where: the file, line, option or object at fault; "" when there is none.
        problem: what is wrong, without a full stop.
        got: the offending value, shown with quotes if it is text; None leaves it out.
        expected: what would have been right, without a full stop.
        do: the next step for the user, as an imperative without a full stop.

    Example:
        >>> build_message("labels.csv line 812", "unknown label", got="dgo", do="Add it to labels.txt")
        "labels.csv line 812: unknown label, got 'dgo'. Add it to labels.txt."
    """
    message = f"{where}: {problem}" if str(where) else problem
    if got is not None:
        message += f", got {got!r}"
    if expected:
        message += f", expected {expected}"
    message += "."
    if do:
        message += f" {do}."
    return message


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'dog'?)` for the nearest known name, or an empty string when none is near.

    Example:
        >>> suggest_name("dgo", ["dog", "cat"])
        " (did you mean 'dog'?)"
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=1)
    return f" (did you mean {by_folded[near[0]]!r}?)" if near else ""


def join_names(names: Sequence[object], limit: int = MAX_LISTED) -> str:
    """Return the names joined by commas, the first `limit` of them, and how many more there are.

    Example:
        >>> join_names(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown


def join_problems(problems: Sequence[str], total: int | None = None, limit: int = MAX_LISTED) -> str:
    """Return collected problems as lines, the first `limit` of them, and how many more there are.

    `total` says how many there are where only the first were put into words.

    Example:
        >>> print(join_problems(["row 1 is bad.", "row 2 is bad."], limit=1))
        row 1 is bad.
        ... and 1 more like this.
    """
    lines = list(problems[:limit])
    rest = (len(problems) if total is None else total) - len(lines)
    if rest > 0:
        lines.append(f"... and {rest} more like this.")
    return "\n".join(lines)


def make_printable(text: str) -> str:
    r"""Return the text with control characters, text direction marks and broken bytes spelt out as escapes.

    Label and file names come from outside: on a terminal an escape sequence in one could move the cursor.

    Example:
        >>> make_printable("dog\x1b[2J")
        'dog\\x1b[2J'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
