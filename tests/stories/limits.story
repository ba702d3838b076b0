# Beyond the limits of code texts, one reply says how long to wait; then there is no reply.
# with CODES_PER_HOUR=2
# with CODES_PER_DAY=4
# with RESEND_COOLDOWN=0
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/later 5m
> VERIFY
< Textproof code: {code}. Reply with it within 5 minutes. Not you? Reply NOT ME.
> VERIFY
< Textproof: the code we sent works for 5 minutes more. No new one can be sent for 55 minutes.
> VERIFY
> RESEND
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
/later 55m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/later 10m
> VERIFY
< Textproof: no more codes to this number for now. Please wait 23 hours, then text VERIFY.
> VERIFY
/later 22h
> VERIFY
/later 50m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
