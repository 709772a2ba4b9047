# The same server as `trident serve` runs on the host: NVIDIA's Triton from its Python wheel, with this project's backends.
#
#   docker build -f docker/triton-cpu.Dockerfile -t trident-triton-cpu .
#
# BASE_IMAGE is any Debian-like image with CPython 3.11 or 3.12, venv and libpython3.X.so, which Triton's Python stub loads.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Where pip looks. Give PyTorch's CPU index here, or plain torch brings several GB of CUDA packages that nothing here uses.
# They stay in this stage, and so out of the image and its history; unset, they are not there at all.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/trident
WORKDIR /src
# The dependencies alone come first: they change seldom, and a change of our own code then costs no download.
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE && /opt/trident/bin/pip install ${PIP_ARGS} -c constraints.txt '.[serve]'
COPY . .
RUN /opt/trident/bin/pip install ${PIP_ARGS} --no-deps --force-reinstall .

FROM ${BASE_IMAGE}
COPY --from=build /opt/trident /opt/trident
# The root file system may be read-only: whatever is written at run time goes to /tmp. ONNX Runtime would report home.
ENV PATH=/opt/trident/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp ORT_DISABLE_TELEMETRY=1
USER 1000:1000
WORKDIR /tmp
EXPOSE 8000 8001 8002 8003
ENTRYPOINT ["trident", "serve", "--repository", "/models"]
# All interfaces of the container; which of the host's reach it, whoever publishes the ports decides.
CMD ["--host", "0.0.0.0"]
