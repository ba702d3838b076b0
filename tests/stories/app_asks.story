# An app requests a code. Wrong codes typed in the app end that verification only.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
= awaiting_code
/type {wrong}
/type {wrong}
/type {wrong}
/type {wrong}
@ pending
/type {wrong}
@ failed
= idle
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
= verified
# It completes no verification of the app.
@ failed
