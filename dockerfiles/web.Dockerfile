# The site: web server, Celery worker and Beat run from this one image, by another command each.
# BASE has python3, python3-venv and the system's certificates; imgforge names it.
ARG BASE={{ python_image }}

FROM ${BASE} AS builder
{% if compiled %}
# {{ compiled.packages }}: sources alone, no wheels.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends {{ compiled.build }}
{% endif %}
# The installer stays in a folder of its own: the site's environment, which is all that is kept, has none.
RUN python3 -m venv /tmp/installer && python3 -m venv --without-pip /opt/venv
WORKDIR /home/docker/code
COPY {{ requirements_copy }}
COPY dockerfiles/requirements.txt dockerfiles/
{% if not compiled %}
# A package that has no wheel is built here; if it wants a compiler, install gcc, libc6-dev and python3-dev in this stage.
{% endif %}
# Both secrets may be left out. ca_bundle: certificates of a company's proxy; pip_conf: a private index and its login.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    if [ -s /run/secrets/pip_conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip_conf; fi; \
{% if locked %}
    set -e; install="/tmp/installer/bin/pip --disable-pip-version-check install --prefer-binary"; \
    $install {{ uv }}; \
    /tmp/installer/bin/uv export --frozen --no-dev --no-emit-project --no-header --quiet --output-file /tmp/locked.txt; \
    export PIP_PYTHON=/opt/venv/bin/python3; \
    $install --requirement /tmp/locked.txt; \
    $install --requirement dockerfiles/requirements.txt
{% else %}
    /tmp/installer/bin/pip --python /opt/venv/bin/python3 --disable-pip-version-check install \
        --prefer-binary --requirement dockerfiles/requirements.txt
{% endif %}

FROM ${BASE}
{% if compiled and compiled.run %}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends {{ compiled.run }} \
    && rm -rf /var/lib/apt/lists/*
{% endif %}
# A fixed uid: files in volumes and the owner of baked secrets are written as numbers. files is for a volume.
RUN groupadd --gid 1000 docker \
    && useradd --uid 1000 --gid 1000 --create-home --shell /usr/sbin/nologin docker \
    && install --directory --owner=docker --group=docker /home/docker/files
COPY --from=builder /opt/venv /opt/venv
WORKDIR /home/docker/code
# Owned by root: the site cannot change its own code.
COPY . .
ARG SERVER=gunicorn
ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE={{ settings_module }} WSGI={{ wsgi }} SERVER=${SERVER} WEB_CONCURRENCY=2
USER docker
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/', timeout=4)"]
CMD ["python3", "dockerfiles/start-web"]
