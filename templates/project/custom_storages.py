"""Static files and uploads in one S3 bucket, below `static/` and `media/`.

Addresses are those of the site itself (STATIC_URL, MEDIA_URL): the site's nginx fetches the files from the bucket and keeps
them for a while. So the bucket is not public, and pages need no other host.
"""

from urllib.parse import urljoin

from django.conf import settings
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.utils.encoding import filepath_to_uri
from storages.backends.s3 import S3Storage


class SiteStorage(S3Storage):
    """A folder of the bucket, seen through the site."""

    # Nobody but the bucket's policy says who may read.
    default_acl = None
    querystring_auth = False

    def url(self, name, parameters=None, expire=None, http_method=None):
        return urljoin(self.base_url, filepath_to_uri(name).lstrip("/"))


class MediaStorage(SiteStorage):
    """What visitors upload. A second file of the same name gets another one."""

    location = "media"
    file_overwrite = False

    @property
    def base_url(self):
        return settings.MEDIA_URL


class StaticStorage(ManifestFilesMixin, SiteStorage):
    """What collectstatic gathers, with a hash of the content in each name."""

    location = "static"
    file_overwrite = True
    # The manifest in the bucket is the newest release's. When an older one runs again (a rollback), it may want a file that
    # the newest does not have: its name is then computed from the file, which is still there, instead of failing the page.
    manifest_strict = False

    @property
    def base_url(self):
        return settings.STATIC_URL

    def get_object_parameters(self, name):
        hashed = self.manifest_name != name and name in self.hashed_files.values()
        age = "max-age=31536000, immutable" if hashed else "max-age=300"
        return {**super().get_object_parameters(name), "CacheControl": f"public, {age}"}
