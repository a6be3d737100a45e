#!/usr/bin/env python3
"""Orders something with a real browser and takes the pictures of the docs on the way.

    scripts/screenshots
"""

import argparse
import pathlib
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import visitor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site")
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chrome = Options()
    for argument in ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1"]:
        chrome.add_argument(argument)
    browser = webdriver.Chrome(options=chrome, service=Service("/usr/bin/chromedriver"))
    try:
        order(browser, options.site, options.folder)
    finally:
        browser.quit()


def order(browser, site, folder):
    def shot(name):
        browser.save_screenshot(str(folder / f"{name}.png"))
        print(folder / f"{name}.png")

    def field(name):
        return browser.find_element(By.NAME, name)

    def go_on():
        browser.find_element(By.CSS_SELECTOR, "form button:not(.plain)").click()

    # A click is over before the next page is there.
    browser.implicitly_wait(10)
    browser.set_window_size(960, 820)
    browser.get(site)
    shot("shop-front")
    browser.find_element(By.CSS_SELECTOR, ".products li:nth-child(2) a").click()
    go_on()
    with tempfile.NamedTemporaryFile(suffix=".png") as picture:
        picture.write(visitor.png(900, 700))
        picture.flush()
        field("picture-picture").send_keys(picture.name)
        go_on()
        # The browser reads the file when it sends it.
        field("address-name")
    for name, value in {"name": "Kim", "street": "Long Street 1", "city": "Bonn"}.items():
        field(f"address-{name}").send_keys(value)
    shot("shop-address")
    go_on()
    field("confirm-agreed").click()
    shot("shop-confirm")
    go_on()
    wait = WebDriverWait(browser, 30)
    wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "picture img"))
    wait.until(lambda browser: browser.execute_script("return document.querySelector('picture img')?.naturalWidth") == 240)
    wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, ".good"))
    shot("shop-order")
    browser.set_window_size(420, 800)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    browser.get(site)
    shot("shop-dark")


if __name__ == "__main__":
    main()
