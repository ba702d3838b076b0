"""Learn who somebody is: ask them to text a reference, and see which number they text it from.

python text_in.py, with TEXTPROOF_URL and TEXTPROOF_KEY in the environment
"""

import asyncio
import os
import sys

from aiohttp import ClientSession

LOOK_EVERY = 2.0
"""Seconds between two looks; with EVENTS_URL, the bot tells you instead."""


async def main() -> int:
    """Return 0 once somebody is verified, 1 where nobody was."""
    key = {"Authorization": f"Bearer {os.environ['TEXTPROOF_KEY']}"}
    url = f"{os.environ['TEXTPROOF_URL']}/v1/verifications"
    async with ClientSession(headers=key, raise_for_status=True) as session:
        async with session.post(url, json={"metadata": {"user": "u_17"}}) as answer:
            verification = await answer.json()
        print(verification["instruction"])
        print("or open", verification["sms_link"], flush=True)
        while verification["status"] == "pending":
            await asyncio.sleep(LOOK_EVERY)
            async with session.get(f"{url}/{verification['id']}") as answer:
                verification = await answer.json()
    print(verification["status"], verification["to"])
    return 0 if verification["status"] == "verified" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
