# The DICOM node: receives, closes, routes. No torch in here.
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/wetread
ENV PATH=/opt/wetread/bin:$PATH
COPY constraints.txt .
RUN pip install --no-cache-dir --require-hashes -r constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY ledger ledger
COPY dicom_node dicom_node
COPY models models
COPY results results
COPY worker worker
COPY console console
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12.12-slim-bookworm
# One number for node and workers: they share the spool, which is closed to everybody else.
RUN groupadd --gid 10001 wetread \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin wetread \
    && install -d -o wetread -g wetread -m 0700 /data
COPY --from=build /opt/wetread /opt/wetread
ENV PATH=/opt/wetread/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WETREAD_CONFIG=/etc/wetread/wetread.toml
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 11112
# C-ECHO to ourselves: the node is healthy when it answers DICOM.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["wetread", "echo"]
# SIGTERM ends it within 30 s with nothing lost: give it that long (compose: stop_grace_period).
STOPSIGNAL SIGTERM
ENTRYPOINT ["wetread"]
CMD ["node"]
