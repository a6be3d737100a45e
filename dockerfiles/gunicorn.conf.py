"""gunicorn's settings. The number of workers is WEB_CONCURRENCY, which gunicorn reads by itself."""

import os

wsgi_app = os.environ["WSGI"]
chdir = "/home/docker/code"
# The socket that start-web has opened.
bind = "fd://" + os.environ["LISTEN_FD"]
# Before anything is asked of it, and once for all workers.
preload_app = True
worker_class = "gthread"
threads = 4
# Below nginx's proxy_read_timeout, so that the worker gives up before nginx does.
timeout = 30
# Below the time that the container is given to stop: what still runs then is cut off either way.
graceful_timeout = 29
# A file that is touched all the time, so in memory: on a busy disk a worker would seem dead.
worker_tmp_dir = "/dev/shm"
# Memory that leaks in a library comes back; the jitter keeps the workers from starting anew together.
max_requests = 10000
max_requests_jitter = 2000
# Wants a writable home, and nobody uses it in a container.
control_socket_disable = True
# nginx writes the access log.
accesslog = None
errorlog = "-"
