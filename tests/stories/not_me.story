# NOT ME ends the code; apps and the form get no new one for an hour, the person one a day.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> I didn’t request this! {code}
< Textproof: thanks. Any code or verification of the last day is cancelled. No app gets one for 1 hour. Was it you? Text VERIFY.
= idle
/ask
@ not_me
# Nothing is left to cancel: a repeated NOT ME refuses nothing for longer.
> NOT ME
< Textproof: thank you. There is nothing to cancel: no code or verification of the last 24 hours is left for this number.
/later 20m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/later 1m
> RESEND
< Textproof: the code we sent works for 9 minutes more. No new one can be sent for 39 minutes.
# Replying with it ends the refusal.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
/type {code}
@ verified
# NOT ME revokes the verifications of the last day.
> NOT ME
< Textproof: thanks. Any code or verification of the last day is cancelled. No app gets one for 1 hour. Was it you? Text VERIFY.
@ revoked
= idle
