"""Prompts from PEFT (https://github.com/huggingface/peft) and back; nothing but the old `.bin` files needs torch."""
