FROM python:3.13-slim

RUN useradd --create-home --uid 10001 alphaagent
WORKDIR /srv/alphaagent
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY app app
COPY graphs graphs
COPY prompts prompts
COPY storage storage
COPY factors factors
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && python -m factors.warm_up \
    && install -d -o alphaagent -g alphaagent /var/lib/alphaagent
USER alphaagent
ENV ALPHAAGENT_HOME=/var/lib/alphaagent
VOLUME /var/lib/alphaagent
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["alphaagent", "serve", "--host", "0.0.0.0", "--port", "8000"]
