# The console, and the operator's command line: `docker compose exec console wetread status`. No torch in here.
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
RUN groupadd --gid 10001 wetread \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin wetread \
    && install -d -o wetread -g wetread -m 0700 /data
COPY --from=build /opt/wetread /opt/wetread
ENV PATH=/opt/wetread/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WETREAD_CONFIG=/etc/wetread/wetread.toml
USER 10001:10001
WORKDIR /data
EXPOSE 11181
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 CMD ["wetread", "status", "--ping"]
ENTRYPOINT ["wetread"]
STOPSIGNAL SIGTERM
CMD ["console"]
