# An app asks. What strangers type there burns what it asked, and costs the person nothing.
/ask
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
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
# It completes nothing that the app asked.
@ failed
