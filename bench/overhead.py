#!/usr/bin/env python3
"""What imgforge adds to `docker build` + `docker push` of the same Dockerfile.

Both sides build fixtures/page's web image on the same daemon and send it to the same registry on loopback; imgforge also pins
the secrets, bakes them and pushes the baked image. Needs: bench/peers (docker-buildx), docker-registry, a release build.
"""

import harness


def main():
    options = harness.arguments(__doc__)
    if not harness.installed(harness.BUILDX):
        return
    results = {}
    with harness.registry(options.storage) as (folder, port):
        site = harness.Site(folder, port)
        for name, prepare in [("one source file changed : docker build + push", site.change), ("nothing changed : docker build + push", lambda: None)]:
            # Both have built what is there: what is timed is what `prepare` changes.
            site.imgforge()
            site.docker()
            results[name] = harness.in_turns(site.imgforge, site.docker, options.runs, prepare, goal=1.05)
    harness.report("overhead", results, options)


if __name__ == "__main__":
    main()
