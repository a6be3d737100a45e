"""The work, queued: thumbnails of one picture, and the sweep over those that wait too long."""

import logging
from datetime import timedelta

from celery import shared_task
from django.core.files.storage import default_storage
from django.db.models import F
from django.utils import timezone

from . import pictures
from .models import Picture

logger = logging.getLogger(__name__)

# A picture that took this many workers down, or failed this often, is given up.
ATTEMPTS = 3
# What waits longer was never queued, or its message was lost.
PATIENCE = timedelta(minutes=1)
BATCH = 500


@shared_task(bind=True, max_retries=8, retry_backoff=True)
def make_thumbnails(self, name):
    """Makes the thumbnails of one upload. A second message for the same one finds nothing to do."""
    begun = Picture.objects.filter(name=name, state=Picture.State.WAITING, attempts__lt=ATTEMPTS)
    if not begun.update(attempts=F("attempts") + 1):
        Picture.objects.filter(name=name, state=Picture.State.WAITING).update(
            state=Picture.State.REFUSED, why=f"given up after {ATTEMPTS} attempts"
        )
        return
    try:
        width, height = pictures.make(default_storage, name)
    except pictures.Refused as error:
        Picture.objects.filter(name=name).update(state=Picture.State.REFUSED, why=str(error)[:200])
        logger.warning("%s: refused: %s", name, error)
    except FileNotFoundError:
        Picture.objects.filter(name=name).update(state=Picture.State.REFUSED, why="the file is not there")
    except Exception as error:
        # The storage is away, say. That is not the picture's fault, so it is no attempt.
        Picture.objects.filter(name=name).update(attempts=F("attempts") - 1)
        raise self.retry(exc=error, countdown=min(300, 2**self.request.retries)) from error
    else:
        Picture.objects.filter(name=name).update(state=Picture.State.DONE, why="", width=width, height=height)


@shared_task
def sweep():
    """Queues what waits for longer than it should: its upload came while the broker was away."""
    late = Picture.objects.filter(state=Picture.State.WAITING, changed__lt=timezone.now() - PATIENCE)
    for picture in late.order_by("created")[:BATCH]:
        # Noted, so that the next batch begins with others. A second message for the same picture does no harm.
        picture.save(update_fields=["changed"])
        picture.queue()
