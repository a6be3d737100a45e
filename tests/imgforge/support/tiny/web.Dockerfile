ARG BASE
FROM ${BASE}
COPY www /www
ARG TINY
LABEL tiny=${TINY}
RUN echo built > /www/built
USER 1000:1000
CMD ["httpd", "-f", "-p", "8000", "-h", "/www"]
