# Each code completes its own verification: by a reply only what was asked for by text.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
> {code:2}
< That code is not right, 4 tries left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
@ pending
> {code:1}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ pending
= awaiting_code
/type {code:2}
@ verified
= verified
# A reply with the code of an app proves nothing; the first answer says where to type it.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
> {code}
< Textproof: if a website or app asked for the code, type it there. If it was not you, reply NOT ME.
> {code}
> RESEND
> STATUS
@ pending
> NOT ME
< Textproof: thanks. Any code or verification of the last day is cancelled. No app gets one for 1 hour. Was it you? Text VERIFY.
@ failed
/ask
@ not_me
