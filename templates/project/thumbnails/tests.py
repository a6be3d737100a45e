import io
import tempfile
from unittest import mock

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.template import Context, Template
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import timezone
from PIL import Image

from . import pictures, tasks
from .models import Picture


def picture(size=(1000, 500), mode="RGB", kind="PNG", **options):
    out = io.BytesIO()
    color = (200, 30, 30, 0)[: len(mode)] if mode != "L" else 90
    Image.new(mode, size, color).save(out, kind, **options)
    return out.getvalue()


class InAFolder:
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        changed = override_settings(
            MEDIA_ROOT=folder.name,
            STORAGES={
                "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            },
            CELERY_TASK_ALWAYS_EAGER=True,
        )
        changed.enable()
        self.addCleanup(changed.disable)
        self.folder = folder.name

    def save(self, data, name="a.png"):
        name = default_storage.save(name, ContentFile(data))
        return Picture.objects.create(name=name)

    def opened(self, name):
        with default_storage.open(name) as file:
            return Image.open(io.BytesIO(file.read()))


class Making(InAFolder, TestCase):
    def done(self, data, name="a.png"):
        saved = self.save(data, name)
        tasks.make_thumbnails(saved.name)
        saved.refresh_from_db()
        return saved

    def test_each_size_is_made_as_webp_and_as_jpeg_beside_the_original(self):
        saved = self.done(picture())
        self.assertEqual((saved.state, saved.width, saved.height), ("done", 1000, 500))
        for size in pictures.sizes():
            for kind, format in [("webp", "WEBP"), ("jpg", "JPEG")]:
                made = self.opened(f"{saved.name}.{size}.{kind}")
                self.assertEqual((made.format, made.size), (format, (size, size // 2)))

    def test_twice_gives_the_same_files(self):
        saved = self.done(picture())
        before = {name: default_storage.open(name).read() for name in default_storage.listdir("")[1]}
        Picture.objects.update(state="waiting")
        tasks.make_thumbnails(saved.name)
        after = {name: default_storage.open(name).read() for name in default_storage.listdir("")[1]}
        self.assertEqual(before, after)
        self.assertEqual(len(after), 1 + 2 * len(pictures.sizes()))

    def test_a_turned_photo_stands_upright_and_says_nothing_of_where_it_was_taken(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010E] = "at home"
        saved = self.done(picture((300, 200), kind="JPEG", exif=exif), "a.jpg")
        made = self.opened(f"{saved.name}.240.jpg")
        self.assertEqual(made.size, (160, 240))
        self.assertEqual(dict(made.getexif()), {})

    def test_what_is_transparent_is_white_in_a_jpeg(self):
        saved = self.done(picture((50, 50), "RGBA"))
        self.assertEqual(self.opened(f"{saved.name}.240.jpg").getpixel((10, 10)), (255, 255, 255))
        self.assertEqual(self.opened(f"{saved.name}.240.webp").convert("RGBA").getpixel((10, 10))[3], 0)

    def test_a_small_picture_stays_small(self):
        saved = self.done(picture((60, 30)))
        self.assertEqual(self.opened(f"{saved.name}.240.webp").size, (60, 30))

    def refused(self, data, why, name="a.png"):
        saved = self.done(data, name)
        self.assertEqual(saved.state, "refused")
        self.assertIn(why, saved.why)
        self.assertEqual(len(default_storage.listdir("")[1]), 1, "nothing was made")

    def test_what_is_no_picture_is_refused(self):
        self.refused(b"<svg onload=alert(1)>", "no picture of a known kind")

    def test_a_picture_that_is_cut_off_is_refused(self):
        self.refused(picture((800, 800), kind="JPEG", quality=95)[:2000], "it cannot be read", "a.jpg")

    def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(self):
        data = picture((8000, 8000), "L")
        with mock.patch("PIL.ImageFile.ImageFile.load", side_effect=AssertionError("decoded")):
            self.refused(data, "million pixels")

    def test_a_decompression_bomb_is_refused(self):
        data = bytearray(picture((1, 1)))
        data[16:24] = (60000).to_bytes(4, "big") * 2
        import zlib

        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        self.refused(bytes(data), "too many pixels")

    def test_a_file_of_too_many_bytes_is_refused(self):
        with mock.patch.object(pictures, "MAX_BYTES", 10):
            self.refused(picture(), "MB")

    def test_a_picture_whose_file_is_gone_is_refused(self):
        Picture.objects.create(name="gone.png")
        tasks.make_thumbnails("gone.png")
        self.assertEqual(Picture.objects.get().why, "the file is not there")

    def test_a_picture_that_takes_the_worker_down_is_given_up(self):
        saved = self.save(picture())
        for attempt in range(1, tasks.ATTEMPTS + 1):
            # SystemExit goes through the task as the end of its process would.
            with mock.patch.object(pictures, "make", side_effect=SystemExit), self.assertRaises(SystemExit):
                tasks.make_thumbnails(saved.name)
            saved.refresh_from_db()
            self.assertEqual((saved.state, saved.attempts), ("waiting", attempt))
        tasks.make_thumbnails(saved.name)
        saved.refresh_from_db()
        self.assertEqual((saved.state, saved.why), ("refused", "given up after 3 attempts"))
        saved.again()
        tasks.make_thumbnails(saved.name)
        saved.refresh_from_db()
        self.assertEqual(saved.state, "done")

    def test_a_storage_that_is_away_is_tried_again_and_counts_as_no_attempt(self):
        saved = self.save(picture())
        with mock.patch.object(FileSystemStorage, "open", side_effect=ConnectionError("away")):
            with mock.patch.object(tasks.make_thumbnails, "retry", side_effect=RuntimeError("later")) as retry:
                with self.assertRaises(RuntimeError):
                    tasks.make_thumbnails(saved.name)
        self.assertEqual(retry.call_args.kwargs["countdown"], 1)
        saved.refresh_from_db()
        self.assertEqual((saved.state, saved.attempts), ("waiting", 0))


class Queueing(InAFolder, TransactionTestCase):
    def test_an_upload_is_queued_when_it_is_saved(self):
        name = default_storage.save("a.png", ContentFile(picture()))
        with mock.patch.object(tasks.make_thumbnails, "delay") as delay:
            Picture.wait_for(name)
        delay.assert_called_once_with(name)

    def test_without_a_broker_the_upload_is_saved_and_swept_up_later(self):
        name = default_storage.save("a.png", ContentFile(picture()))
        with mock.patch.object(tasks.make_thumbnails, "delay", side_effect=ConnectionError("no broker")):
            with self.assertLogs("thumbnails.models", "WARNING"):
                Picture.wait_for(name)
        self.assertEqual(Picture.objects.get().state, "waiting")
        with mock.patch.object(tasks.make_thumbnails, "delay") as delay:
            tasks.sweep()
            delay.assert_not_called()
            Picture.objects.update(changed=timezone.now() - 2 * tasks.PATIENCE)
            tasks.sweep()
            tasks.sweep()
        delay.assert_called_once_with(name)


class Showing(InAFolder, TestCase):
    def shown(self, saved):
        file = mock.Mock(storage=default_storage)
        file.name = saved.name
        context = Context({"file": file, "alt": "A <mug>"})
        return Template("{% load thumbnails %}{% thumbnail file 240 alt=alt %}").render(context)

    def test_a_placeholder_stands_there_until_the_thumbnail_is_there(self):
        saved = self.save(picture())
        self.assertIn("thumbnails/waiting.svg", self.shown(saved))
        tasks.make_thumbnails(saved.name)
        page = self.shown(saved)
        self.assertIn(f"{saved.name}.240.webp", page)
        self.assertIn('width="240" height="120"', page)
        self.assertIn("A &lt;mug&gt;", page)
        Picture.objects.update(state="refused")
        self.assertIn("thumbnails/none.svg", self.shown(saved))
