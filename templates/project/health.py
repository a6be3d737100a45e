"""Answers that must not depend on anything else: whether the site runs, and what it says while the database is away."""

import logging
import sys

from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.dispatch import receiver
from django.http import HttpResponse

logger = logging.getLogger(__name__)
AWAY = (InterfaceError, OperationalError)

UNAVAILABLE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Back in a moment</title>
<style>
  body { font: 1.1rem/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 30rem; padding: 0 1rem; color-scheme: light dark }
</style>
<h1>Back in a moment</h1>
<p>This page cannot be shown right now. Nothing that was confirmed before is lost. Please try again in a few seconds.</p>
</html>
"""


class HealthMiddleware:
    """Says that the site runs. First in MIDDLEWARE: a load balancer asks by address and over plain HTTP, and must get neither
    a 400 (ALLOWED_HOSTS) nor a redirect to HTTPS, or it takes a good container for a bad one.

    It does not look at the database: when that is away every container would be unhealthy, and all would be stopped.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/health/":
            return HttpResponse("ok\n", content_type="text/plain")
        return self.get_response(request)


class UnavailableMiddleware:
    """503 with Retry-After, instead of 500 and a trace, while the database cannot be reached."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        error = getattr(request, "uncaught", None)
        if response.status_code == 500 and isinstance(error, AWAY):
            return self.unavailable(request, error)
        return response

    def process_exception(self, request, error):
        """What a view raises."""
        return self.unavailable(request, error) if isinstance(error, AWAY) else None

    def unavailable(self, request, error):
        logger.warning("%s %s: the database is away: %s", request.method, request.path, str(error).split("\n")[0])
        return HttpResponse(UNAVAILABLE, status=503, headers={"Retry-After": "5"})


@receiver(got_request_exception)
def keep(sender, request=None, **kwargs):
    """What a middleware raises (sessions, when a response is on its way out): Django makes it a 500 before others see it."""
    if request is not None:
        request.uncaught = sys.exc_info()[1]
