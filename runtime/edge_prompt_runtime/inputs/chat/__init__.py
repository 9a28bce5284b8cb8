"""Chat templates: from messages to the text that a model was trained to continue. jinja2 is imported when one runs."""

from edge_prompt_runtime.inputs.chat.messages import Message, plain_messages
from edge_prompt_runtime.inputs.chat.template import ChatTemplate
from edge_prompt_runtime.inputs.chat.template_files import read_chat_template

__all__ = ["ChatTemplate", "Message", "plain_messages", "read_chat_template"]
