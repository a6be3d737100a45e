"""Many visitors at once: some read pages, some order. Says what came of it."""

import collections
import threading
import time

import visitor


class Crowd:
    """Visitors that go on until they are stopped. `phase` names what is going on meanwhile."""

    def __init__(self, site, readers=4, buyers=2):
        self.site, self.phase = site, "before"
        self.lock, self.over = threading.Lock(), threading.Event()
        self.answers = collections.defaultdict(collections.Counter)
        self.slowest = collections.defaultdict(float)
        self.orders = collections.defaultdict(list)
        self.failures = collections.defaultdict(collections.Counter)
        work = [self.read] * readers + [self.buy] * buyers
        self.threads = [threading.Thread(target=one, args=[at], daemon=True) for at, one in enumerate(work)]
        for thread in self.threads:
            thread.start()

    def read(self, at):
        reader = visitor.Visitor(self.site, timeout=60)
        paths = ["/", "/cache/"]
        count = 0
        while not self.over.is_set():
            start = time.monotonic()
            try:
                answer = reader.ask(paths[count % 2]).status
            except visitor.Failed:
                answer = "none"
            count += 1
            # What is going on when the answer comes, not when it was asked for: that is what made it.
            phase = self.phase
            with self.lock:
                self.answers[phase][answer] += 1
                self.slowest[phase] = max(self.slowest[phase], time.monotonic() - start)
            self.over.wait(0.02)

    def buy(self, at):
        count = 0
        while not self.over.is_set():
            buyer = visitor.Visitor(self.site, timeout=60)
            try:
                order = buyer.order(visitor.png(120, 90, seed=at * 50 + count))
                with self.lock:
                    self.orders[self.phase].append(order)
            except visitor.Failed as failed:
                with self.lock:
                    self.failures[self.phase][failed.status or "none"] += 1
            count += 1
            self.over.wait(0.1)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def placed(self):
        return [order for orders in self.orders.values() for order in orders]

    def told(self, phase):
        answers = ", ".join(f"{count} × {answer}" for answer, count in sorted(self.answers[phase].items(), key=str))
        failed = ", ".join(f"{count} × {status}" for status, count in sorted(self.failures[phase].items(), key=str))
        return (
            f"{phase:<26} pages: {answers}; slowest {self.slowest[phase]:.1f} s; "
            f"orders: {len(self.orders[phase])} placed" + (f", failed: {failed}" if failed else "")
        )
