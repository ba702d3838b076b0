# Codes as in Telnyx's tutorials: four characters of 0-9 and A-F, in upper or lower case.
# with TOKEN_ALPHABET=hex
# with TOKEN_LENGTH=4
# with APP_NAME=Example Shop
> verify me please
< Example Shop code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> the code is {code}
< Please reply with just the code we sent you, or text RESEND to get it once more.
> {wrong}
< That code is not right, 4 tries left. Please check it and reply again, or text RESEND to get it once more.
>  {code}.
< Example Shop: thank you, this number is verified. There is nothing more to do.
