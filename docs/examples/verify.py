"""Verify a number: begin, ask the person for the code, check it until the verification ends.

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

MAX_WAIT = 60
"""Seconds; a longer Retry-After is reported instead."""


def post(path: str, body: dict[str, Any]) -> Any:
    """Send a request; raise HTTPError, whose body is application/problem+json."""
    request = Request(
        f"{os.environ['TEXTPROOF_URL']}/v1/{path}",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['TEXTPROOF_KEY']}",
            "Content-Type": "application/json",
            # A request that is sent again with the same key is carried out once.
            "Idempotency-Key": str(uuid.uuid4()),
        },
    )
    while True:
        try:
            with urlopen(request, timeout=10) as response:
                return json.load(response)
        except HTTPError as error:
            wait = int(error.headers.get("Retry-After", "0"))
            if not 0 < wait <= MAX_WAIT:
                raise
            time.sleep(wait)


def main(number: str) -> int:
    """Return 0 if the number is verified, else 1."""
    verification = post("verifications", {"to": number, "reference": "example"})
    while verification["status"] == "pending":
        code = input("Which code did you get? ")
        check = post(f"verifications/{verification['id']}/check", {"code": code})
        verification = check["verification"]
        if not check["valid"]:
            print(f"Wrong code, {check['tries_left']} tries left.")
    print(verification["status"])
    return 0 if verification["status"] == "verified" else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['title']}: {problem['detail']}")
