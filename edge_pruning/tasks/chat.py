"""Prompts as chats, for models trained for chat: rendered by the tokenizer's own template.

A prompt is the user's message, and the answer begins the reply, so it loses its leading space. A prompt can also be a
list of messages, `[{"role": "user", "content": "..."}, ...]`, which may contain examples and instructions. If the last
one is the assistant's, it is the beginning of the reply, and the answer continues it unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_pruning.tasks.encoding import TextPair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Texts = tuple[str, ...]
Messages = Sequence[Mapping[str, str]]
DATE = "26 Jul 2024"  # some templates state the date; with the current one, runs could not be repeated


class Chat:
    """A tokenizer's chat template. Raises ValueError if it has none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, what: str) -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                f"{what}: this tokenizer has no chat template, so pairs cannot be written as messages; leave out "
                "--chat, or use a model that was trained for chat"
            )
        self.tokenizer = tokenizer

    def prompt(self, prompt: str | Messages) -> str:
        """Return the text of a chat up to the answer. Raises ValueError if the template refuses it."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not begun(prompt), continue_final_message=begun(prompt),
                date_string=DATE,
            )
        except Exception as error:  # templates are programs and can raise any exception
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        return str(text)

    def pair(
        self, clean: str | Messages, corrupted: str | Messages, answer: Texts, wrong: Texts, template: str = ""
    ) -> TextPair:
        """Return two chats with the same answers."""
        if not begun(clean):
            answer, wrong = (tuple(text.lstrip(" ") for text in texts) for texts in (answer, wrong))
        return TextPair(self.prompt(clean), self.prompt(corrupted), answer, wrong, template)


def begun(prompt: str | Messages) -> bool:
    """Return whether the assistant's reply has begun in the prompt."""
    return not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"


def is_messages(value: Any) -> bool:
    """Return whether a JSON value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(
        isinstance(message, dict) and message.keys() == {"role", "content"}
        and all(isinstance(part, str) for part in message.values())
        for message in value
    )  # fmt: skip
