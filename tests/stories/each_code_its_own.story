# Each code completes its own verification.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/ask
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code:1}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ pending
> {code:2}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ verified
= verified
/ask
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/type {code}
@ verified
= verified
/ask
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> NOT ME
< Textproof: thank you. Any code is cancelled, and no new one goes to this number for 1 hour. If it was you, text VERIFY then.
@ failed
/ask
@ not_me
