# Each further lock lasts twice as long.
# with TOKEN_ATTEMPTS=1
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 15 minutes, then text VERIFY for a new code.
/later 15m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 30 minutes, then text VERIFY for a new code.
/later 30m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 1 hour, then text VERIFY for a new code.
/later 59m
> VERIFY
/later 1m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 2 hours, then text VERIFY for a new code.
/later 2h
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< Too many wrong codes. Please wait 4 hours, then text VERIFY for a new code.
