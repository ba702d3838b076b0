# The app shows two letters. A reply with the code and them completes its request.
/ask reply
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
> {code}
< Textproof: if a website or app asked for the code, type it there. If it was not you, reply NOT ME.
@ pending
> {wrong} {letters}
< That code is not right, 4 tries left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
> {code}{letters}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ verified
= verified
