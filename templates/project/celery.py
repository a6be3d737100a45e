"""Celery for this site, set so that no task is lost when a worker or the broker goes away.

Settings that begin with CELERY_ count over those here.
"""

import os
import time

import celery
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{{ settings_module }}")


class Task(celery.Task):
    """Gives up soon when the broker is away: what is queued is in the database, too, and a sweep finds it."""

    abstract = True
    away_until = 0.0

    def apply_async(self, *args, **options):
        if time.monotonic() < Task.away_until:
            raise OperationalError("the broker was away a moment ago")
        # A broker without memory or disk still takes connections and messages, but confirms none.
        options.setdefault("confirm_timeout", 1)
        try:
            return super().apply_async(*args, **options)
        except OperationalError:
            # The next ones, perhaps of the same page, need not find out for themselves.
            Task.away_until = time.monotonic() + 5
            raise


app = celery.Celery("{{ project }}", task_cls=Task)
app.conf.update(
    # A task is done when it has ended, not when it has begun: one whose worker dies is done again by another.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # What the broker has not confirmed is not taken for sent.
    broker_transport_options={"confirm_publish": True},
    # A worker waits for its broker for ever; a page does not: what it cannot queue within a second is swept up later.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=2,
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0.2, "interval_max": 0.5},
    # Tasks write what they find out into the database.
    task_ignore_result=True,
    # The first lets a task clean up, the second does not. Both are below the broker's patience (30 minutes).
    task_soft_time_limit=120,
    task_time_limit=150,
    # Memory that a library leaks comes back, in KiB.
    worker_max_memory_per_child=300_000,
    worker_max_tasks_per_child=1000,
    # Needs queues of a kind that RabbitMQ is about to give up.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule(sender, **_):
    """What Beat queues, beside CELERY_BEAT_SCHEDULE. While no worker takes them, old ones are dropped."""
    sender.add_periodic_task(60.0, sender.signature("thumbnails.tasks.sweep"), name="thumbnails", expires=50)
