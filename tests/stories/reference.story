# An app shows a reference, and learns which number texts it: one number, once.
/ask reference
@ pending
> VERIFY {reference}
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
= awaiting_code
# Texted again too soon, it is met with silence; later it brings the same code.
> VERIFY {reference}
/later 30s
> verify {reference}
< Textproof code: {code}. Reply with it within 9 minutes. Not you? Reply NOT ME.
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
