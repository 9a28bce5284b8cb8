"""Convert prompts from and to PEFT (https://github.com/huggingface/peft); only the old `.bin` files need torch."""
