# After eight wrong codes in a month, the codes of a channel have eight digits, also after a success.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< That code is not right, 4 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 3 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 2 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 1 try left. Please check it and reply again, or text RESEND to get it once more.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {wrong}
< That code is not right, 3 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 2 tries left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, 1 try left. Please check it and reply again, or text RESEND to get it once more.
> {wrong}
< That code is not right, and too many were tried for the one we sent. Text VERIFY to get a new one.
= idle
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> 123456
< A code has 8 digits. Please check it and reply with just the code, or text RESEND to get it once more.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
/later 1h
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> 654321
< A code has 8 digits. Please check it and reply with just the code, or text RESEND to get it once more.
