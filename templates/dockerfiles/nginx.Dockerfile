# nginx before the site. BASE has nginx (Debian's nginx-light is enough) and the system's certificates; imgforge names it.
ARG BASE={{ nginx_image }}
FROM ${BASE}
RUN groupadd --gid 1000 docker \
    && useradd --uid 1000 --gid 1000 --create-home --shell /usr/sbin/nologin docker \
    && install --directory --owner=docker --group=docker /home/docker/files
COPY dockerfiles/nginx.conf /etc/nginx/nginx.conf
COPY dockerfiles/start-nginx /usr/local/bin/start-nginx
# APP_SERVER: where the site is, compose's service "web", or a linked container's name within one ECS task.
# FILES: where /static/ and /media/ come from: "local" (the volume), or a bucket: "https://NAME.s3.REGION.amazonaws.com".
ENV APP_SERVER=web:8000 FILES=local
WORKDIR /home/docker
USER docker
EXPOSE 8080
# SIGQUIT lets running requests end.
STOPSIGNAL SIGQUIT
# Through to the site: healthy means that visitors get pages. bash is in every Debian base, curl is not.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health/ HTTP/1.0\\r\\n\\r\\n' >&3; read -r _ code _ <&3; [ \"$code\" = 200 ]"]
CMD ["sh", "/usr/local/bin/start-nginx"]
