# A person is verified; the used code, texted again, has no reply.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
= awaiting_code
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
= verified
> {code}
= verified
> STATUS
< Textproof: this number has been verified since 15 Jan 2026, 12:00 UTC.
