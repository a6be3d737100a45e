"""A field whose uploads get thumbnails."""

from django.db import models
from django.db.models.signals import post_save


class ThumbnailedImageField(models.ImageField):
    """An ImageField. When its model is saved, thumbnails of the picture are queued."""

    def contribute_to_class(self, cls, name, **options):
        super().contribute_to_class(cls, name, **options)
        if not cls._meta.abstract:
            post_save.connect(self.saved, sender=cls)

    def saved(self, instance, raw=False, **_):
        from .models import Picture

        file = getattr(instance, self.attname)
        # Not for fixtures: what they name may not be there.
        if file and not raw:
            Picture.wait_for(file.name)
