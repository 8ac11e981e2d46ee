# A GPU worker: runs models, makes results, delivers them. No listening port.
#
# torch from the package index is the CUDA build and brings its CUDA libraries; the host brings the driver through the
# NVIDIA container toolkit. Without a GPU it computes on the CPU.
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/wetread
ENV PATH=/opt/wetread/bin:$PATH
# First and on its own: builds of torch differ by machine, so it stays out of the hashed set.
RUN pip install --no-cache-dir torch==2.13.0
# With what bundles and ONNX models need: small beside the CUDA libraries.
COPY constraints-models.txt .
RUN pip install --no-cache-dir --require-hashes -r constraints-models.txt
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
ENV PATH=/opt/wetread/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WETREAD_CONFIG=/etc/wetread/wetread.toml \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
VOLUME /data
# A worker listens nowhere: it is healthy when it reaches the ledger and its own processes run.
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 CMD ["wetread", "status", "--ping"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["wetread"]
CMD ["worker"]
