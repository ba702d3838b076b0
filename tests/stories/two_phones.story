# A code works only for the phone it was sent to.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
/phone +13125550002
> {code}
< No code is waiting for you here. Text VERIFY to get one.
= idle
/phone +13125550001
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
= awaiting_code
/later 11m
> STATUS
< Textproof: this number has been verified since 15 Jan 2026, 12:00 UTC.
= idle
