#!/usr/bin/env python3
"""Uses a running shop over HTTP, as a visitor would, and says what it found. Ends with 1 at the first thing that is not right.

    tests/shop/check.py http://127.0.0.1:8080 [--motto WORDS] [--bucket]
"""

import argparse
import gzip
import re
import sys

import visitor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site")
    parser.add_argument("--motto", help="what only the secret settings know")
    parser.add_argument("--bucket", action="store_true", help="static files and uploads come from a bucket")
    options = parser.parse_args()
    shop = visitor.Visitor(options.site)

    front = shop.get("/")
    expect("the front page shows the products", "Mug" in front.text and "12.90" in front.text)
    if options.motto:
        expect("it shows the motto that only the secret settings know", options.motto in front.text)
    expect("the session counts visits", "Visits: 2" in shop.get("/").text)
    expect("another visitor's session is another", "Visits: 1" in visitor.Visitor(options.site).get("/").text)

    style = re.search(r'href="(/static/shop/shop\.[0-9a-f]{12}\.css)"', front.text)
    expect("the style sheet has a hash in its name", style is not None)
    file = shop.get(style.group(1), headers={"Accept-Encoding": "gzip"})
    expect("collectstatic put it where nginx has it", b"--paper" in gzip.decompress(file.body))
    expect("browsers may keep it for ever", "immutable" in file.headers["Cache-Control"])
    if options.bucket:
        expect("nginx got it from the bucket", file.headers["X-Cache"] in ("MISS", "HIT"))
    expect("Django's own static files are there, too", shop.ask("/static/admin/css/base.css").status == 200)
    expect("a file that is not there is 404", shop.ask("/static/nothing.css").status == 404)

    first = shop.get("/cache/").text
    expect("a page is kept in the cache", first == shop.get("/cache/").text and "Counted at" in first)

    order = shop.order(visitor.png(640, 480))
    expect("four steps make an order", True, order)
    state = shop.wait(order)
    expect("a background task confirmed it", bool(state["confirmed"]), state["confirmed"])
    expect("the picture has its thumbnails", state["picture"] == "done", state["thumbnails"])
    kinds = {"webp": "image/webp", "jpg": "image/jpeg"}
    for path in state["thumbnails"]:
        made = shop.get(path)
        expect(f"{path}", made.headers["Content-Type"] == kinds[path.rsplit(".")[-1]], f"{len(made.body)} bytes")
        expect("an upload cannot act as a page", "sandbox" in made.headers["Content-Security-Policy"])
    expect("the order's page shows one", state["thumbnails"][0] in shop.get(order).text)

    page = visitor.Visitor(options.site)
    page.get("/order/")
    page.step("product", product=1, quantity=1)
    refused = page.step("picture", files={"picture": ("cat.png", b"no picture at all")})
    expect("what is no picture is refused", "Upload a valid image" in refused.text)

    huge = shop.ask("/order/", data=b"x" * 21_000_000)
    expect("an upload of more than 20 MB is refused by nginx", huge.status == 413)
    expect("a load balancer's check by address is answered", shop.get("/health/", headers={"Host": "10.0.0.7"}).text == "ok\n")
    expect("a wrong host name is refused", shop.ask("/", headers={"Host": "elsewhere.example.com"}).status == 400)
    for hidden in ["/.env", "/.git/config", "/static/.hidden", "/media/../manage.py", "/static/../../code/manage.py",
                   "/static/%2e%2e/%2e%2e/code/shop/server_settings.py", "/server_settings.py", "/secrets/postgres_password"]:
        expect(f"{hidden} is not there", shop.ask(hidden).status in (400, 403, 404))
    admin = shop.get("/admin/login/")
    expect("the admin's page is there", "Django administration" in admin.text)


def expect(what, right, detail=""):
    if not right:
        print(f"FAILED  {what} {detail}")
        sys.exit(1)
    print(f"ok      {what} {detail}".rstrip())


if __name__ == "__main__":
    try:
        main()
    except visitor.Failed as failed:
        print(f"FAILED  {failed}")
        sys.exit(1)
