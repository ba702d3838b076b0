"""Prove a number: begin, ask the person for the code, check it until it is right or too late.

python verify.py NUMBER, with TEXTPROOF_URL and TEXTPROOF_KEY in the environment
"""

import json
import os
import sys
import time
import uuid
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PATIENCE = 60
"""Seconds that are worth waiting for when we are told to come again later."""


def ask(path: str, body: dict[str, Any]) -> Any:
    """Ask the bot; raises HTTPError, whose body says why (application/problem+json)."""
    request = Request(
        f"{os.environ['TEXTPROOF_URL']}/v1/{path}",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['TEXTPROOF_KEY']}",
            "Content-Type": "application/json",
            # A request that comes again with the same key is carried out once.
            "Idempotency-Key": str(uuid.uuid4()),
        },
    )
    while True:
        try:
            with urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except HTTPError as error:
            wait = int(error.headers.get("Retry-After", "0"))
            if not 0 < wait <= PATIENCE:
                raise
            time.sleep(wait)


def main(number: str) -> int:
    """Return 0 once the number is verified, 1 where it was not."""
    verification = ask("verifications", {"to": number, "reference": "example"})
    while verification["status"] == "pending":
        code = input("Which code has come? ")
        check = ask(f"verifications/{verification['id']}/check", {"code": code})
        verification = check["verification"]
        if not check["valid"]:
            print(f"That is not it; {check['tries_left']} tries are left.")
    print(verification["status"])
    return 0 if verification["status"] == "verified" else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['title']}: {problem['detail']}")
