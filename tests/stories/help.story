# HELP explains the service, the next step and the contact; Telnyx answers the bare word by itself.
# with SUPPORT_CONTACT=help@example.com
> help
* Help: ask whoever gave you this number. Reply STOP to unsubscribe.
> help me please
< Textproof: text VERIFY to get a code. 1 msg/request. Msg&data rates may apply. Help: help@example.com. STOP to opt out.
> ?
< Textproof: text VERIFY to get a code. 1 msg/request. Msg&data rates may apply. Help: help@example.com. STOP to opt out.
> START
* You are subscribed again. Reply STOP to unsubscribe.
