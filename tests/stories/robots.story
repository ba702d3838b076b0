# A robot that answers every text receives three hints, then none for an hour; VERIFY still works.
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
> I am on holiday until Monday.
> STATUS
< Textproof: this number is not confirmed and no code is waiting. Text VERIFY to get one.
/later 1h
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
< Hi, this is Textproof. Text VERIFY to confirm your number, or HELP for help.
> I am on holiday until Monday.
> VERIFY
< Textproof code: {code}. Reply with it within 10 minutes. Not you? Reply NOT ME.
> {code}
< Textproof: thank you, this number is verified. There is nothing more to do.
