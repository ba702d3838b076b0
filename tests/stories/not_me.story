# Who did not ask says so: the code ends, and the phone gets no new one for an hour.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> This wasn’t me
< Textproof: thank you. No code works or goes to this number for 60 minutes. If it was you after all, text VERIFY then.
= idle
> {code}
< No code is waiting for you here. Text VERIFY to get one.
/later 20m
> VERIFY
< Textproof: no more codes to this number for now. Please wait 40 minutes, then text VERIFY.
> VERIFY
/later 40m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
