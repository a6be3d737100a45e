
# imgforge: begin. Tasks find their broker, also in processes that only queue them.
from .celery import app as celery_app  # noqa: E402, F401
# imgforge: end.
