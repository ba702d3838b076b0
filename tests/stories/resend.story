# The same code is sent again, but not within the cooldown; its expiry does not change.
> RESEND
< No code is waiting for you here. Text VERIFY to get one.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> RESEND
> VERIFY
/later 30s
> RESEND
< Textproof code: {code}. Reply with it within 9 minutes. Not you? Reply NOT ME.
/later 9m
> VERIFY
< Textproof code: {code}. Reply with it within 30 seconds. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
