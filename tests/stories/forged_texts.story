# Wrong codes by text lock texts alone: an app's code lives on, and it gets new ones.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< That code is not right, 4 tries left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
> {wrong}
< That code is not right, 3 tries left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
> {wrong}
< That code is not right, 2 tries left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
> {wrong}
< That code is not right, 1 try left. Please check it, or text RESEND. If a website or app asked for the code, type it there.
> {wrong}
< Too many wrong codes. Please wait 15 minutes, then text VERIFY for a new code.
= locked
> VERIFY
@ pending
/type {code:1}
@ verified
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
/type {code}
@ verified
= locked
/later 16m
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
