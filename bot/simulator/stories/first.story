# One complete conversation: `bot demo --once` plays it.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
= awaiting_code
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
= verified
