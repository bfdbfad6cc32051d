# One image for every role; the command says which. Dependencies first, so code changes are cheap to build.
FROM python:3.13-slim-bookworm AS build
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable .

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data seatrush \
 && mkdir /data && chown seatrush /data
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 SEATRUSH_DATA_DIR=/data
USER seatrush
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["seatrush"]
CMD ["serve"]
