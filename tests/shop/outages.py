#!/usr/bin/env python3
"""Kills memcached, RabbitMQ and PostgreSQL under load, one after another, and starts them again. Says what visitors saw, and ends with
1 when an order or a thumbnail is lost, or when visitors saw more than they should.

    tests/shop/outages.py http://127.0.0.1:8080 --project shop
"""

import argparse
import sys
import time

import crowd
import visitor
from containers import docker, healthy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site")
    parser.add_argument("--project", required=True)
    parser.add_argument("--seconds", type=float, default=8, help="how long each phase takes")
    options = parser.parse_args()

    visitors = crowd.Crowd(options.site)
    phases = ["before"]

    def phase(name):
        phases.append(name)
        visitors.phase = name

    time.sleep(options.seconds)
    for service in ["memcached", "rabbitmq", "postgres"]:
        container = f"{options.project}_{service}_1"
        phase(f"{service} killed")
        docker("kill", container)
        time.sleep(options.seconds)
        phase(f"{service} starts")
        docker("start", container)
        healthy(container)
        # What was begun meanwhile comes to its end.
        time.sleep(3)
        phase(f"{service} is back")
        time.sleep(options.seconds)
    visitors.stop()
    for name in phases:
        print(visitors.told(name))

    wrong = []
    for name in phases:
        is_database = name in ("postgres killed", "postgres starts")
        allowed = {200, 503} if is_database else {200}
        if not set(visitors.answers[name]) <= allowed:
            wrong.append(f"{name}: pages {dict(visitors.answers[name])}")
        if not set(visitors.failures[name]) <= allowed - {200}:
            wrong.append(f"{name}: orders failed {dict(visitors.failures[name])}")
    if not visitors.answers["postgres killed"][503]:
        wrong.append("PostgreSQL was killed and nobody noticed")
    if not visitors.orders["rabbitmq killed"]:
        wrong.append("nobody ordered while RabbitMQ was away")

    # Beat sweeps every minute what waits for longer than a minute.
    start, reader = time.monotonic(), visitor.Visitor(options.site)
    orders = visitors.placed()
    waiting = list(orders)
    while waiting and time.monotonic() < start + 240:
        waiting = [order for order in waiting if not settled(reader.state(order))]
        time.sleep(1)
    print(f"{len(orders)} orders were placed, {len(orders) - len(waiting)} are confirmed and have their thumbnails")
    print(f"the last one {time.monotonic() - start:.0f} s after the last visitor had gone")
    wrong += [f"lost: {order} {reader.state(order)}" for order in waiting]
    for line in wrong:
        print(f"FAILED  {line}")
    sys.exit(1 if wrong else 0)


def settled(state):
    return bool(state["confirmed"]) and state["picture"] == "done"


if __name__ == "__main__":
    main()
