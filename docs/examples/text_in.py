"""Learn a person's number: ask them to text a reference, and see where the text comes from.

python text_in.py, with TEXTPROOF_URL and TEXTPROOF_KEY in the environment
"""

import asyncio
import os
import sys

from aiohttp import ClientSession

POLL_INTERVAL = 2.0
"""Seconds; with EVENTS_URL, the bot sends you an event instead."""


async def main() -> int:
    """Return 0 if the person is verified, else 1."""
    key = {"Authorization": f"Bearer {os.environ['TEXTPROOF_KEY']}"}
    url = f"{os.environ['TEXTPROOF_URL']}/v1/verifications"
    request = {"label": "Ann's login", "metadata": {"user": "u_17"}}
    async with ClientSession(headers=key, raise_for_status=True) as session:
        async with session.post(url, json=request) as response:
            verification = await response.json()
        print(verification["instruction"])
        print("or open", verification["sms_link"], flush=True)
        texted_from = None
        while verification["status"] == "pending":
            await asyncio.sleep(POLL_INTERVAL)
            async with session.get(f"{url}/{verification['id']}") as response:
                verification = await response.json()
            if verification["to"] != texted_from:
                texted_from = verification["to"]
                print(f"texted from {texted_from}: is this yours?", flush=True)
    print(verification["status"], verification["to"])
    return 0 if verification["status"] == "verified" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
