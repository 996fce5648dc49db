"""Texts that spell special tokens, and a model whose tokenizer has added tokens of several kinds."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from corpus.contract import SPECIAL_TOKENS
from model.config import ModelConfig
from model.hrm import HRM
from model.loading import LoadedModel
from pipeline.shards.tokenizer import REFERENCE, Encoder, special_ids, train, vocabulary_size

ADDED = ("<think>", "zz", "  ", "é")
"""Added tokens that are not special, as many tokenizers have them; one overlaps with itself, one is one character."""
TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*SPECIAL_TOKENS, *ADDED, *(token[:-1] for token in SPECIAL_TOKENS)]),
        st.sampled_from(["\ufdd0", "\ue000", "\ufdd0\ue000", "\ufdd0\ue001", "<", "|", ">", "a", " ", "\n", "e\u0301"]),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)
"""Texts with tags, parts of tags, codes of escapes, and characters that the normalizer changes."""


def spelled_texts(number: int) -> Sequence[str]:
    """Return texts that hypothesis makes, always the same ones, each with a letter that is no white space."""
    found: list[str] = []

    @settings(max_examples=number, database=None, derandomize=True, deadline=None)
    @given(TEXTS)
    def collect(text: str) -> None:
        found.append(f"{text}x")

    collect()
    return found


def model_with_added_tokens() -> LoadedModel:
    """Return a small model with random weights, whose tokenizer has `ADDED` besides the template's tags."""
    lines = ["a <b> |c| aaa <|im_x|> é im_end box_end think", "What is 12 + 30? <im end> <|box|>  aa"]
    tokenizer = Tokenizer.from_str(train(iter(lines * 20), 400).to_str())
    tokenizer.add_tokens([AddedToken(token, lstrip=True, rstrip=True, normalized=True) for token in ADDED])
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "head_dim": 8, "intermediate_size": 24}
    model = HRM(ModelConfig(vocab_size=vocabulary_size(tokenizer.to_str()), **shape), seed=0).eval()
    return LoadedModel(model=model, tokenizer_json=tokenizer.to_str(), special=special_ids(tokenizer.to_str()))


def pipeline_ids(tokenizer_json: str, text: str) -> list[int]:
    """Return the token ids of a text in a built dataset."""
    ids: list[int] = Encoder(tokenizer_json, REFERENCE).encode([text])[0].tolist()
    return ids
