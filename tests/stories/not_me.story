# NOT ME ends the code, and the phone receives no new one for an hour.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> I didn’t request this! {code}
< Textproof: thank you. Any code is cancelled, and no new one goes to this number for 1 hour. If it was you, text VERIFY then.
= idle
/later 20m
> {code}
< Textproof: no more codes to this number for now. Please wait 40 minutes, then text VERIFY.
> VERIFY
/later 40m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
