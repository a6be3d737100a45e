#!/usr/bin/env python3
"""Building without a daemon against `docker build` + `docker push` of the Dockerfile that does the same.

Both sides make fixtures/shop's web image and send it to the same registry on loopback; imgforge also pins the secrets, bakes
them and pushes the baked image. Needs: bench/peers (docker-buildx), docker-registry, uv, a release build.
"""

import argparse
import os

import harness

TABLES = harness.ROOT / "tests/imgforge/support/site/web.toml"
UV = harness.ROOT / "target/tools/bin"


def directly(site):
    """A copy of the site whose web image has no Dockerfile."""
    copy = site.path.parent / "direct"
    copy.mkdir()
    for name in os.listdir(site.path):
        if name != "imgforge.toml" and name != ".imgforge":
            (copy / name).symlink_to(site.path / name)
    (copy / ".imgforge").mkdir()
    (copy / ".imgforge/bases").symlink_to((site.path / ".imgforge/bases").resolve())
    lines = (site.path / "imgforge.toml").read_text().splitlines()
    lines = ['engine = "direct"' if line.startswith("dockerfile = \"dockerfiles/web") else line for line in lines]
    lines = ['context = "../shop"\n' + line if line.startswith('engine = "direct"') else line for line in lines]
    tables = TABLES.read_text().replace('from    = "static"', 'inputs  = ["**/static", "shop/settings.py"]\nfrom    = "static"')
    (copy / "imgforge.toml").write_text("\n".join(lines) + "\n" + tables)
    return copy


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", "--runs", type=int, default=10)
    runs = arguments.parse_args().runs
    if not harness.installed(harness.BUILDX):
        return
    os.environ["PATH"] = f"{UV}:{os.environ['PATH']}"
    results = {}
    with harness.registry() as (folder, port):
        site = harness.Site(folder, port)
        copy = directly(site)
        environment = ["-e", "mirror"] if site.pip_conf else []

        def direct():
            command = [harness.IMGFORGE, "-C", copy, *environment, "push", "--image", "web"]
            # No daemon is needed, so none is there.
            harness.run(command, PIP_CONF=site.pip_conf, DOCKER_HOST="unix:///nowhere.sock")

        # The base gets to the daemon, and both have built what is there.
        site.imgforge()
        for name, prepare in [("one source file changed", site.change), ("nothing changed", lambda: None)]:
            direct()
            site.docker()
            results[name] = harness.in_turns(direct, site.docker, runs, prepare)
    harness.report(results, runs)


if __name__ == "__main__":
    main()
