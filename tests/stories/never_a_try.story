# Pictures, group messages, reactions, chatter and codes of a wrong length never cost a guess.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> Liked “Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.”
> 👍 to “Textproof code: {wrong}. Reply with it within 10 minutes.”
> Gefällt „Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.“
/group {code}
/mms {wrong}
< Please reply with just the code we sent you, or text RESEND to get it once more.
> 1234
< A code has 6 digits. Please check it and reply with just the code, or text RESEND to get it once more.
> Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
< Please reply with just the code we sent you, or text RESEND to get it once more.
> thanks
> what is this about?
< Please reply with just the code we sent you, or text RESEND to get it once more.
= awaiting_code
> STATUS
< Textproof: your code was sent. It works for 10 minutes, 5 tries left. Reply with it, or text RESEND.
> it's {code}, thanks
< Textproof: thank you, this number is verified. There is nothing more to do.
