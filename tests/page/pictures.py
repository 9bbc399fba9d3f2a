"""The pictures of README: `make pictures` draws a server's newest finished job, its page and its report, as PNG.

The server is one on loopback without keys whose data folder `make demo` has filled: `make serve` beside.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import httpx

from tests.page.chromium import shape, start_chromium

TARGET = Path(__file__).parents[2] / "docs" / "images"
SIZE = (1200, 900)


def main() -> None:
    """Write docs/images/page.png and docs/images/report.png."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--server", default="http://127.0.0.1:8000")
    server = options.parse_args().server
    newest = httpx.get(f"{server}/v1/jobs", params={"status": "succeeded", "limit": 1}).raise_for_status().json()
    job = newest["items"][0]["id"]
    TARGET.mkdir(exist_ok=True)
    driver = start_chromium()
    try:
        shape(driver, SIZE)
        for name, address in {"page": f"/jobs/{job}", "report": f"/jobs/{job}/report.html"}.items():
            driver.get(f"{server}{address}")
            time.sleep(1)  # curves are drawn by the server, fonts by the browser
            driver.save_screenshot(str(TARGET / f"{name}.png"))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
