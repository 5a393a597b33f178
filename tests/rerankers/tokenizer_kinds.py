"""Small tokenizers of the kinds that language models have, trained on the spot."""

import itertools
import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LETTERS = string.ascii_uppercase
PAIRS = ["".join(pair) for pair in itertools.product(LETTERS, repeat=2)]
# Frequent words become tokens of their own: the single letters, every second pair, and what stands in a ranking.
TEXTS = [" ".join([*LETTERS, *PAIRS[::2]])] * 50 + ["x > [1] > [2] > [13]", "the cat sat on the mat"] * 50


def byte_level() -> Tokenizer:
    """Byte-level BPE, as Llama 3, Qwen and SmolLM have it: a word's space belongs to its token, digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    """BPE over a text whose spaces are marked, with one before its first word, as Llama 2 and Mistral have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>"], initial_alphabet=list(string.printable), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def characters() -> Tokenizer:
    """One token per character, so that no identifier with its space is a single one."""
    vocabulary = {character: id_ for id_, character in enumerate(string.printable)}
    return Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
