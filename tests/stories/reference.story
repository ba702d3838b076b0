# An app shows a reference and learns the number that texts it: one number, once.
/ask reference
@ pending
> VERIFY {reference}
< Textproof code: {code}. It is for reference {reference}. Reply with it within 10 minutes. Not you? Reply NOT ME.
= awaiting_code
# Texted again within the cooldown, it has no reply; later the same code is sent again.
> VERIFY {reference}
/later 30s
> verify {reference}
< Textproof code: {code}. It is for reference {reference}. Reply with it within 9 minutes. Not you? Reply NOT ME.
/phone +13125550002
> VERIFY {reference}
< Textproof: that reference was used or has expired. Please get a new one where you found it.
/phone +13125550001
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
= verified
@ verified
> VERIFY {reference}
< Textproof: that reference was used or has expired. Please get a new one where you found it.
@ verified
# The reference alone means the same.
/phone +13125550003
/ask reference
> {reference}
< Textproof code: {code}. It is for reference {reference}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
@ verified
# With a label, the text says what the app wants to link to this number.
/phone +13125550004
/ask reference Ann's login
> VERIFY {reference}
< Textproof code: {code}. It is for Ann's login, reference {reference}. Reply with it within 10 minutes. Not you? Reply NOT ME.
@ pending
# The same goes for the code that is sent once more.
/later 30s
> RESEND
< Textproof code: {code}. It is for Ann's login, reference {reference}. Reply with it within 9 minutes. Not you? Reply NOT ME.
# Somebody who has never heard of Ann says so.
> NOT ME
< Textproof: thanks. Any code or verification of the last day is cancelled. No app gets one for 1 hour. Was it you? Text VERIFY.
@ failed
