# The bot honours opt-outs that Telnyx does not recognise, and confirms them once.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> REVOKE
< Textproof: you have opted out and will get no more texts from us. Text START to come back.
= opted_out
> opt out
> stop texting me
> {code}
= opted_out
/phone +13125550002
> please don't text me again!
< Textproof: you have opted out and will get no more texts from us. Text START to come back.
= opted_out
