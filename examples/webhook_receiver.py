"""Receives webhooks and believes only those that are signed with the stream's secret.

    WEBHOOK_SECRET=… python webhook_receiver.py [PORT]

Only the standard library. For the open Internet put it behind a server that speaks TLS.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["WEBHOOK_SECRET"]
TOLERANCE_SECONDS = 300
SEEN_MAX = 10_000

seen: OrderedDict[str, None] = OrderedDict()


def standard_key(secret: str) -> bytes:
    """Standard Webhooks: base64 behind `whsec_`; else the secret's own bytes."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_") + "==")
    return secret.encode()


def verify(body: bytes, headers: dict[str, str]) -> bool:
    """Check the Standard Webhooks headers: who signed, and that it was just now."""
    identity = headers.get("webhook-id", "")
    moment = headers.get("webhook-timestamp", "")
    if not moment.isdecimal() or abs(time.time() - int(moment)) > TOLERANCE_SECONDS:
        return False
    signed = f"{identity}.{moment}.".encode() + body
    digest = hmac.new(standard_key(SECRET), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected.encode(), each.encode()) for each in given)


def is_repeated(identity: str) -> bool:
    """An event may come twice: its id is the same then."""
    if identity in seen:
        return True
    seen[identity] = None
    if len(seen) > SEEN_MAX:
        seen.popitem(last=False)
    return False


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not verify(body, headers):
            self.answer(401)
            return
        if not is_repeated(headers["webhook-id"]):
            event = json.loads(body)
            note = "" if event["changed"] else " (unchanged)"
            print(f"{event['lastUpdatedAt']} {event['id']} = {event['value']}{note}", flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print(f"receiving at http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
