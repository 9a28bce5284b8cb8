"""Chat templates: from messages to the text that a model was trained to continue. jinja2 is imported when one runs."""

from edge_prompt_runtime.generation.chat.messages import Message, plain_messages
from edge_prompt_runtime.generation.chat.reading import read_chat_template
from edge_prompt_runtime.generation.chat.template import ChatTemplate

__all__ = ["ChatTemplate", "Message", "plain_messages", "read_chat_template"]
