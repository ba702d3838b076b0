"""The SDK's aiohttp transport alone, with as many concurrent texts as the bot sends."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

from telnyx import AsyncTelnyx, DefaultAioHttpClient

from benchmarks.load import phone
from benchmarks.servers import BOT_NUMBER
from bot.services.delivery.sender import TextDelivery


async def send(count: int) -> None:
    client = AsyncTelnyx(max_retries=0, http_client=DefaultAioHttpClient())
    _ = client.messages
    # The bot excludes imported modules from garbage collection too.
    gc.freeze()
    numbers = iter(range(count))

    async def send_some() -> None:
        for number in numbers:
            await client.messages.send(
                from_=BOT_NUMBER,
                to=phone(number),
                text="123456 is your code. Reply with it to verify this number.",
                idempotency_key=f"{os.getpid()}-{number}",
            )

    await asyncio.gather(*(send_some() for _ in range(TextDelivery.slots)))
    await client.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(send(int(sys.argv[1])))
