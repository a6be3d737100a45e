"""The containers of a running shop."""

import subprocess
import time


def docker(*arguments):
    """What the docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def healthy(container):
    """Waits until its health check says so."""
    for _ in range(600):
        if docker("inspect", "--format", "{{.State.Health.Status}}", container) == "healthy":
            return
        time.sleep(0.1)
    raise SystemExit(f"{container} did not become healthy")
