"""One row for each uploaded picture: whether its thumbnails are there, or why they never will be."""

import logging

from django.db import models, transaction
from django.utils import timezone

logger = logging.getLogger(__name__)


class Picture(models.Model):
    """An upload, by its name in the storage."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        REFUSED = "refused"

    name = models.CharField(max_length=500, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    why = models.CharField("why it was refused", max_length=200, blank=True)
    # Counted before the work begins: a picture that takes the worker down is given up, too.
    attempts = models.PositiveSmallIntegerField(default=0)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    created = models.DateTimeField(default=timezone.now)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["state", "created"], name="thumbnails_state_created")]
        ordering = ["-created"]

    def __str__(self):
        return f"{self.name} ({self.state})"

    @classmethod
    def of(cls, file):
        """That of an uploaded file; None when there is none."""
        return cls.objects.filter(name=file.name).first() if file else None

    @classmethod
    def wait_for(cls, name):
        """Notes an upload, and queues its thumbnails when the transaction is through."""
        picture, _ = cls.objects.get_or_create(name=name)
        if picture.state == cls.State.WAITING:
            transaction.on_commit(picture.queue)
        return picture

    def again(self):
        """Begins anew, whatever it came to."""
        self.state, self.why, self.attempts = self.State.WAITING, "", 0
        self.save()
        transaction.on_commit(self.queue)

    def queue(self):
        """Queues the work. Without a broker nothing is lost: `sweep` queues what still waits."""
        from .tasks import make_thumbnails

        try:
            make_thumbnails.delay(self.name)
        except Exception as error:  # whatever the broker's library raises: the upload is saved, and that is what counts
            logger.warning("%s: cannot be queued now: %s", self.name, error)
