"""The arguments that the question-answering commands share."""

import argparse
from pathlib import Path


def at_least_one(text: str) -> int:
    """Return the number, for argparse to refuse what is none or below 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def share(text: str) -> float:
    """Return the share, for argparse to refuse what does not lie between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return value


def add_asking_arguments(parser: argparse.ArgumentParser, *, questions: int, answer_tokens: int) -> None:
    """Add how many questions are asked and how, with these defaults, and where the report goes."""
    numbers = {
        "--questions": (questions, "how many questions, drawn at random"),
        "--answer-tokens": (answer_tokens, "longest answer, in tokens"),
        "--concurrency": (4, "questions asked at a time"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=at_least_one, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--seed", type=int, default=0, help="for everything drawn at random (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
