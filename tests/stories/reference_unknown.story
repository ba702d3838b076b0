# An unknown, mistyped or expired reference is explained, and no code is sent.
> VERIFY 7Q2K42
< Textproof: we do not know that reference. Please check it and text VERIFY with it again.
= idle
> VERIFY 7Q2K
< Textproof: we do not know that reference. Please check it and text VERIFY with it again.
/ask reference
/later 15m
@ expired
> VERIFY {reference}
< Textproof: that reference was used or has expired. Please get a new one where you found it.
= idle
