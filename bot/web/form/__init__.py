"""The web form: type a number, get a code by text, type the code or reply with it."""
