# Built and run by the same Python, at the same paths: both are part of the key of what Numba compiles at build time.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /srv/alphaagent
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.lock ./
RUN python -m pip install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md ./
COPY factors factors
RUN python -m factors.warm_up
COPY storage storage
COPY graphs graphs
COPY prompts prompts
COPY app app
RUN python -m pip install --no-deps --no-build-isolation --editable .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/alphaagent --shell /usr/sbin/nologin alphaagent \
    && install --directory --owner=alphaagent --group=alphaagent --mode=0700 /var/lib/alphaagent
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/alphaagent /srv/alphaagent
# The home is a folder in the volume, not the volume: so a backup can be restored by one rename.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/alphaagent \
    ALPHAAGENT_HOME=/var/lib/alphaagent/home
WORKDIR /var/lib/alphaagent
USER 10001:10001
VOLUME /var/lib/alphaagent
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["alphaagent", "serve", "--host", "0.0.0.0", "--port", "8000"]
