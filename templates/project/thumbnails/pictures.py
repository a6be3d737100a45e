"""Makes thumbnails of one picture. Knows nothing of queues and rows."""

import io
import warnings

from django.conf import settings
from django.core.files.base import ContentFile
from PIL import Image, ImageOps, UnidentifiedImageError

# The longer side, in pixels.
SIZES = (240, 720)
MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
# What is read of uploads: the formats that browsers send. Others have readers that nobody needs here.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# What is written: a name's ending and Pillow's settings.
KINDS = {
    "webp": {"format": "WEBP", "quality": 80, "method": 4},
    "jpg": {"format": "JPEG", "quality": 82, "optimize": True, "progressive": True},
}


class Refused(Exception):
    """It will never have thumbnails."""


def sizes():
    return tuple(getattr(settings, "THUMBNAIL_SIZES", SIZES))


def thumbnail_name(name, size, kind):
    """Beside the original, and told by its name: the same upload always has the same thumbnails."""
    return f"{name}.{size}.{kind}"


def make(storage, name):
    """Makes every size of the picture `name`, beside it. Returns the picture's width and height.

    Done twice it gives the same files. Raises Refused, or what the storage raises.
    """
    with storage.open(name, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Refused(f"it has more than {MAX_BYTES // 1_000_000} MB")
    image = read(data)
    for size in sizes():
        small = image.copy()
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        for kind, options in KINDS.items():
            put(storage, thumbnail_name(name, size, kind), encode(small, kind, options))
    return image.width, image.height


def read(data):
    """The picture, upright, without anything but its pixels."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns of what is large and refuses what is huge; here both are too much.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            # The header is read, the pixels are not: they may not fit into memory.
            if image.width * image.height > MAX_PIXELS:
                raise Refused(f"it has more than {MAX_PIXELS // 1_000_000} million pixels")
            if image.format == "JPEG":
                # Decodes at a fraction of the size where that is enough.
                image.draft("RGB", (max(sizes()) * 2,) * 2)
            image.load()
            image = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused("it has too many pixels") from error
    except UnidentifiedImageError as error:
        raise Refused("it is no picture of a known kind") from error
    except (OSError, SyntaxError, ValueError, IndexError, TypeError) as error:
        # What Pillow's readers raise for files that are cut off or made up.
        raise Refused(f"it cannot be read: {str(error)[:100]}") from error
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def encode(image, kind, options):
    if kind == "jpg" and image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def put(storage, name, data):
    """Writes under exactly this name. Storages give a second file of the same name another one, so the first goes."""
    if storage.exists(name):
        storage.delete(name)
    written = storage.save(name, ContentFile(data))
    if written != name:
        # Another worker made it at the same moment, from the same picture.
        storage.delete(written)
