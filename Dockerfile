# The server in a container: docker build -t freya-push .
# Everything that is installed is pinned and checked by the locks.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/freya && python -m venv /opt/build
COPY requirements-server.lock requirements.lock ./
RUN /opt/freya/bin/python -m pip install --no-deps --require-hashes -r requirements-server.lock
# Of the other lock only the build backend and what it needs.
RUN sed -n -E '/^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==/,/[^\\]$/p' requirements.lock >build.lock \
    && /opt/build/bin/python -m pip install --no-deps --require-hashes -r build.lock
COPY pyproject.toml ./
COPY protocol ./protocol
COPY storage ./storage
COPY server ./server
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/freya/bin/python -m pip install --no-deps --no-index /dist/*.whl

FROM python:3.13-slim
# By number, so that a cluster can see that it is not root.
RUN useradd --system --uid 10001 --home-dir /var/lib/freya --create-home freya
COPY --from=build /opt/freya /opt/freya
COPY tools/healthcheck.py /opt/freya/healthcheck.py
ENV PATH=/opt/freya/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FREYA_HOST=0.0.0.0 \
    PORT=8080 \
    FREYA_DATA_DIR=/var/lib/freya
USER 10001
WORKDIR /var/lib/freya
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/freya/healthcheck.py"]
# Without a shell in between, so that SIGTERM reaches the server, which drains.
ENTRYPOINT ["freya"]
CMD ["serve"]
