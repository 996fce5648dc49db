"""Markup that chat models and their templates leave in texts: thinking, and end markers.

Cleaning removes it from responses (pipeline/ingest), adapters from the earlier turns that an instruction repeats.
"""

import re
from dataclasses import dataclass
from functools import cached_property

THINK_BLOCK = r"(?is)<think>.*?</think>"

THINK_WITHOUT_BEGIN = r"(?is)\A.*</think>"
"""Text before an end tag without a begin tag is thinking: chat templates often supply the begin tag."""

END_MARKERS = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|eom|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<eos>",
    "<|eos|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|assistant_end|>",
    "<|user_end|>",
    "<end_of_utterance>",
    "<seed:eos>",
    "[|endofturn|]",
    "<|user|>",
    "<eoh>",
    "<eoa>",
    "<eom>",
    "<|EOT|>",
    "<|endofturn|>",
    "<|stop|>",
    "<|END_RESPONSE|>",
    "<|role_end|>",
    "<|end_of_response|>",
    "<|message_end|>",
    "<|observation|>",
    "<turn|>",
    "<|eod|>",
    "<eod>",
    "[EOS]",
)
"""End markers of current chat templates."""


def end_markers_pattern(markers: tuple[str, ...]) -> str:
    """Return a pattern, up to the anchor of the text's end, for any number of `markers` with blanks around them."""
    return rf"(?:\s*(?:{'|'.join(map(re.escape, markers))}))+\s*"


@dataclass(frozen=True, kw_only=True)
class Markup:
    """The markup to remove from an assistant's or another turn's text."""

    remove_think: bool = True
    end_markers: tuple[str, ...] = END_MARKERS

    @cached_property
    def _end(self) -> re.Pattern[str]:
        return re.compile(end_markers_pattern(self.end_markers) + r"\Z")

    def strip(self, text: str, *, answer: bool) -> str:
        """Return the text of an earlier turn without end markers and, if it is an answer, without thinking.

        Thinking that does not end takes the rest of the text with it.
        """
        found = text
        if answer and self.remove_think and "think>" in text.lower():
            text = re.sub(THINK_BLOCK, "", text)
            text = re.sub(THINK_WITHOUT_BEGIN, "", text, count=1)
            text = re.sub(r"(?is)<think>.*", "", text)
        if text.rstrip().endswith(self.end_markers):
            text = self._end.sub("", text)
        return text if text is found else text.strip()
