"""Sessions in the cache and the database, for a database that may be away."""

from django.contrib.sessions.backends import cached_db
from django.contrib.sessions.backends.base import UpdateError
from django.db import OperationalError


class SessionStore(cached_db.SessionStore):
    """Says that the database is away. Django takes every fault of it for a session that was deleted meanwhile, and answers 400."""

    def save(self, must_create=False):
        try:
            super().save(must_create)
        except UpdateError as error:
            if isinstance(error.__context__, OperationalError):
                raise error.__context__
            raise
