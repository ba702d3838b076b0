# An expired code is answered as expired and costs no guess; RESEND then sends a new code.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/later 10m
> {code}
< Your code has expired. Text VERIFY to get a new one.
= idle
> {code}
< No code is waiting for you here. Text VERIFY to get one.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/later 11m
> resend please
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
