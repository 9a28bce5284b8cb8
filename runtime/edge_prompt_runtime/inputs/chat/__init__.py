"""Chat templates: turn messages into the text format of a model. jinja2 is imported when a template first runs."""

from edge_prompt_runtime.inputs.chat.messages import Message, plain_messages
from edge_prompt_runtime.inputs.chat.template import ChatTemplate
from edge_prompt_runtime.inputs.chat.template_files import read_chat_template

__all__ = ["ChatTemplate", "Message", "plain_messages", "read_chat_template"]
