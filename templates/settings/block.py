
# imgforge: begin. What the site needs on servers; `imgforge init` writes it anew.
INSTALLED_APPS = [*INSTALLED_APPS, *(app for app in ["thumbnails"] if app not in INSTALLED_APPS)]
MIDDLEWARE = ["health.HealthMiddleware", "health.UnavailableMiddleware", *MIDDLEWARE]

# server_settings is baked into the images by imgforge, local_settings is a developer's own. Neither is in version control.
try:
    from {{ settings_package }}server_settings import *  # noqa: F403
except ModuleNotFoundError as error:
    if error.name != "{{ settings_package }}server_settings":
        raise
    try:
        from {{ settings_package }}local_settings import *  # noqa: F403
    except ModuleNotFoundError as error:
        if error.name != "{{ settings_package }}local_settings":
            raise
{% if old_storages %}

# Before Django 5.1 these and STORAGES cannot stand side by side.
if "STORAGES" in globals():
    globals().pop("DEFAULT_FILE_STORAGE", None)
    globals().pop("STATICFILES_STORAGE", None)
{% endif %}
{% if whoosh %}

if "WHOOSH_FOLDER" in globals() and "HAYSTACK_CONNECTIONS" in globals():
    HAYSTACK_CONNECTIONS = {
        name: {**options, "PATH": f"{WHOOSH_FOLDER}/{name}"} if "Whoosh" in options["ENGINE"] else options
        for name, options in HAYSTACK_CONNECTIONS.items()
    }
{% endif %}

# Fields that only PostgreSQL has need it; it needs psycopg, which a developer with SQLite may not have.
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql" and "django.contrib.postgres" not in INSTALLED_APPS:
    INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.postgres"]
# imgforge: end.
