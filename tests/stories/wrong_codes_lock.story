# Five wrong codes lock the phone; a new code gives no new guesses; the lock is stated once.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< That code is not right, 4 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 3 tries left. Please check it and reply again, or text RESEND to get it once more.
> my code is {wrong}
< That code is not right, 2 tries left. Please check it and reply again, or text RESEND to get it once more.
/later 11m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< That code is not right, 1 try left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< Too many wrong codes. Please wait 15 minutes, then text VERIFY for a new code.
= locked
> {code}
> VERIFY
> RESEND
> hello?
= locked
> STATUS
< Textproof: too many wrong codes. Please wait 15 minutes, then text VERIFY.
/later 16m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
= verified
