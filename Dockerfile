# The one image of every component: assay and kfp inside, so that a pod installs nothing; numeric user, no root needed.
#   bash manifests/image/build.sh          builds it with podman or docker and says what each argument is for
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG CUDA=0
ARG TORCH_INDEX=""
# Package settings come as secrets, which stay out of every layer; without them pip asks its own default.
ENV PIP_CONFIG_FILE=/run/secrets/pip_conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/assay
ENV PATH=/opt/assay/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# torch first and alone: by far the largest layer, and the one that changes least.
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca \
    version="$(sed -n 's/^torch==//p' constraints.txt)"; index="${TORCH_INDEX:+--index-url ${TORCH_INDEX}}"; \
    if [ "${CUDA}" = 0 ] && pip install ${index} "torch==${version%+*}+cpu"; then exit 0; fi; \
    if [ "${CUDA}" = 0 ]; then echo "no CPU build of torch on offer (set TORCH_INDEX): taking the default build"; fi; \
    pip install ${index} "torch==${version}"
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
COPY components components
COPY pipelines pipelines
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca \
    pip install -c constraints.txt setuptools wheel && pip install -c constraints.txt --no-build-isolation . && pip check

FROM ${BASE_IMAGE}
ARG IMAGE=""
LABEL org.opencontainers.image.title="assay" \
      org.opencontainers.image.description="Steps that keep poisoned data and brittle models out of production" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/assay /opt/assay
# Everything a step writes goes to its outputs or below /tmp, so the root may be read-only. The thread and malloc
# settings are those of a local run: numbers agree, and large activations are not mapped and unmapped at every step.
ENV PATH=/opt/assay/bin:$PATH \
    HOME=/tmp ASSAY_HOME=/tmp/.assay MPLCONFIGDIR=/tmp/.matplotlib MPLBACKEND=agg \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0 \
    OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 MKL_NUM_THREADS=2 \
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 MALLOC_TOP_PAD_=268435456 \
    ASSAY_IMAGE=${IMAGE}
USER 10001:10001
WORKDIR /tmp
CMD ["assay", "--help"]
