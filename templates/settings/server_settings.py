{% if place == "sample" %}
{% set key, hosts = "SECRET_KEY", '[".example.com"]' %}
{% set database_host, db_password = "DATABASE_ENDPOINT", "DATABASE_PASSWORD" %}
{% set cache_nodes = '["CACHE_NODE_1:11211", "CACHE_NODE_2:11211"]' %}
{% set broker_url = "amqps://" ~ database ~ ":BROKER_PASSWORD@BROKER_ENDPOINT:5671" %}
{% else %}
{% set key, hosts = secret_key, '["localhost", "127.0.0.1"]' %}
{% set database_host, db_password = "postgres", database_password %}
{% set cache_nodes = '["memcached:11211"]' %}
{% set broker_url = "amqp://" ~ database ~ ":" ~ broker_password ~ "@rabbitmq:5672" %}
{% endif %}
"""The settings of the servers, with everything that is secret. imgforge bakes this file into the images; it is never in
version control and never in a build context.
{% if place == "sample" %}

Fill in what is written in capitals, then: imgforge -e production secrets put server_settings FILE
{% endif %}
"""

{% include "variables.py" %}
SECRET_KEY = "{{ key }}"
DEBUG = False
ALLOWED_HOSTS = {{ hosts }}

# nginx sets it on every request, so a visitor cannot.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
{% if place == "sample" %}
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_HSTS_SECONDS = 3600  # a year (31536000) when HTTPS has proved itself
{% endif %}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "{{ database }}",
        "USER": "{{ database }}",
        "PASSWORD": "{{ db_password }}",
        "HOST": "{{ database_host }}",
        # A connection is kept, and looked at before it is used again: after a restart of the database the first request
        # gets a new one instead of an error.
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
{% if atomic_requests %}
        "ATOMIC_REQUESTS": True,
{% endif %}
        "OPTIONS": {"connect_timeout": 3{% if place == "sample" %}, "sslmode": "require"{% endif %}},
    }
}

# A node that is gone is passed over for a minute and then tried again; what it held is computed anew. No request waits long
# for it, and none fails.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": {{ cache_nodes }},
        "OPTIONS": {
            "ignore_exc": True,
            "connect_timeout": 0.5,
            "timeout": 0.5,
            "no_delay": True,
            "retry_attempts": 1,
            "retry_timeout": 1,
            "dead_timeout": 60,
        },
    }
}
# Read from the cache, kept in the database: nobody is logged out when a node is lost.
SESSION_ENGINE = "custom_sessions"

CELERY_BROKER_URL = "{{ broker_url }}"
{% if result_backend %}
# The broker keeps no results.
CELERY_RESULT_BACKEND = None
{% endif %}

{% if place == "sample" %}
# Static files and uploads, in one bucket. nginx serves both from there (its FILES variable), so the bucket is not public.
AWS_STORAGE_BUCKET_NAME = "MEDIA_BUCKET"
AWS_S3_REGION_NAME = "REGION"
STORAGES = {
    "default": {"BACKEND": "custom_storages.MediaStorage"},
    "staticfiles": {"BACKEND": "custom_storages.StaticStorage"},
}
{% else %}
# Static files and uploads, in the folder that nginx serves them from.
MEDIA_ROOT = "/home/docker/files/media"
STATIC_ROOT = "/home/docker/files/static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
{% endif %}
{% if whoosh %}
# The index is a folder, as a rule beside the code, where the site may write nothing.
{% if place == "sample" %}
# Each container has its own, which goes with it: a search service is better.
{% endif %}
WHOOSH_FOLDER = "/home/docker/files/whoosh_index"
{% endif %}
STATIC_URL = "/static/"
MEDIA_URL = "/media/"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
{% if place == "local" %}
{% include "set_back.py" %}
{% endif %}
