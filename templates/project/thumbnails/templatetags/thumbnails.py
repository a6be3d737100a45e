"""{% load thumbnails %} … {% thumbnail order.picture 240 alt="A mug" %}"""

from django import template

from thumbnails import pictures
from thumbnails.models import Picture

register = template.Library()


@register.inclusion_tag("thumbnails/thumbnail.html")
def thumbnail(file, size, alt=""):
    """The picture in this size; a placeholder while its thumbnails are not there."""
    picture = Picture.of(file)
    state = picture.state if picture else Picture.State.REFUSED
    context = {"alt": alt, "size": size, "state": state}
    if state == Picture.State.DONE:
        scale = min(1, size / max(picture.width, picture.height, 1))
        context["width"] = max(1, round(picture.width * scale))
        context["height"] = max(1, round(picture.height * scale))
        for kind in pictures.KINDS:
            context[kind] = file.storage.url(pictures.thumbnail_name(file.name, size, kind))
    return context
