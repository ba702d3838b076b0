# HELP explains the service, the next step and the contact; Telnyx answers the bare word by itself.
# with SUPPORT_CONTACT=help@example.com
> help
* Help: ask whoever gave you this number. Reply STOP to unsubscribe.
> help me please
< Textproof: to confirm your number, text VERIFY, then the code you get. Questions: help@example.com. Text STOP to opt out.
> ?
< Textproof: to confirm your number, text VERIFY, then the code you get. Questions: help@example.com. Text STOP to opt out.
> START
* You are subscribed again. Reply STOP to unsubscribe.
