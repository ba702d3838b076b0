# In Mexico one line has two spellings. An app asks for one; the person's texts come from the other.
/phone +525512345678
/ask reply
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
= awaiting_code
/phone +5215512345678
> {code} {letters}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ verified
= verified
# From now on texts go to the spelling that texted.
/ask
< Textproof code: {code}. Type it where you asked, never share it. Not you? Reply NOT ME.
# An opt-out counts for the line.
> STOP
* You are unsubscribed and get no more texts. Reply START to come back.
= opted_out
/phone +525512345678
= opted_out
/ask
@ opted_out
