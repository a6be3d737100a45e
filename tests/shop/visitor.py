"""A visitor of the shop: pages, cookies and forms over HTTP, with nothing but Python's library."""

import http.client
import http.cookiejar
import json
import re
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zlib


def png(width, height, seed=0):
    """A picture whose colours change from corner to corner."""
    rows = b"".join(
        b"\0" + b"".join(bytes(((x * 255 // width + seed) % 256, y * 255 // height, 140)) for x in range(width))
        for y in range(height)
    )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Page:
    def __init__(self, status, headers, body, url):
        self.status, self.headers, self.body, self.url = status, headers, body, url

    @property
    def text(self):
        return self.body.decode(errors="replace")

    def json(self):
        return json.loads(self.body)


class Failed(Exception):
    """The shop answered with something else than a page; `status` is None when it did not answer."""

    def __init__(self, what, status=None):
        super().__init__(what)
        self.status = status


class Visitor:
    """Keeps cookies, as a browser does."""

    def __init__(self, site, timeout=30):
        self.site, self.timeout = site.rstrip("/"), timeout
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, path, data=None, headers=()):
        """The answer, whatever its status. Failed when there is none."""
        request = urllib.request.Request(urllib.parse.urljoin(self.site, path), data, dict(headers))
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                return Page(answer.status, answer.headers, answer.read(), answer.url)
        except urllib.error.HTTPError as error:
            return Page(error.code, error.headers, error.read(), error.url)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{path}: {error}") from error

    def get(self, path, **options):
        """A page. Failed when it is none."""
        page = self.ask(path, **options)
        if page.status != 200:
            raise Failed(f"{path}: {page.status}", page.status)
        return page

    def submit(self, path, fields, files=None):
        """Sends a form with its token."""
        token = next((cookie.value for cookie in self.cookies if cookie.name == "csrftoken"), "")
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in {"csrfmiddlewaretoken": token, **fields}.items()
        ]
        for name, (filename, data) in (files or {}).items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + data + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        page = self.ask(path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        if page.status != 200:
            raise Failed(f"{path}: {page.status}", page.status)
        return page

    def step(self, step, files=None, **fields):
        fields = {f"{step}-{name}": value for name, value in fields.items()}
        files = {f"{step}-{name}": value for name, value in (files or {}).items()}
        return self.submit("/order/", {"order_wizard-current_step": step, **fields}, files)

    def order(self, picture, filename="cat.png"):
        """Goes through the four steps; the path of the order's page."""
        self.get("/order/")
        page = self.step("product", product=2, quantity=3)
        page = self.step("picture", files={"picture": (filename, picture)})
        page = self.step("address", name="Kim", street="Long Street 1", city="Bonn")
        if "38.70" not in page.text:
            raise Failed("the last step does not show the price")
        page = self.step("confirm", agreed="on")
        path = urllib.parse.urlparse(page.url).path
        if not re.fullmatch(r"/orders/[0-9a-f-]{36}/", path):
            raise Failed(f"the order was not placed: {path}")
        return path

    def state(self, order):
        return self.get(order.rstrip("/") + ".json").json()

    def wait(self, order, seconds=60):
        """The state of an order that is confirmed and whose picture is not waiting any more."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.state(order)
            if state["confirmed"] and state["picture"] != "waiting":
                return state
            if time.monotonic() > deadline:
                raise Failed(f"{order} after {seconds} s: {state}")
            time.sleep(0.2)


