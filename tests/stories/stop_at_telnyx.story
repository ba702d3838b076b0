# Telnyx answers STOP and START itself, so the bot does not; nothing is sent in between.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> Stop
* You are unsubscribed and get no more texts. Reply START to come back.
= opted_out
> {code}
> VERIFY
> HELP
* Help: ask whoever gave you this number. Reply STOP to unsubscribe.
= opted_out
> START
* You are subscribed again. Reply STOP to unsubscribe.
= idle
> {code}
< No code is waiting for you here. Text VERIFY to get one.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
