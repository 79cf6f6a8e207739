#!/usr/bin/env bash
# Build the one image of all components.
#
#   IMAGE        name to give it                          localhost/assay-python:<version>
#   BASE_IMAGE   any image with Python 3.11 and venv      python:3.11-slim; "debootstrap" makes one without a registry
#   CUDA         1 for torch with CUDA                    0
#   TORCH_INDEX  package index to take torch from         the one pip is configured with
#   ENGINE       command of the engine, with options      podman, else docker, whichever answers
#   BUILD_ARGS   more options for the build               such as "--isolation chroot --network host"
#
# pip's own settings on this machine (pip config) are handed to the build as a secret and stay out of the image.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/assay/__init__.py)
image=${IMAGE:-localhost/assay-python:${version}}
base=${BASE_IMAGE:-python:3.11-slim}
work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT

fail() { echo "build.sh: $1" >&2; exit 1; }

find_engine() {
    local candidate
    for candidate in "${ENGINE:-podman}" docker; do
        if ${candidate} info >/dev/null 2>&1; then echo "${candidate}"; return; fi
    done
    fail "neither podman nor docker answers here; start one, or name it with ENGINE"
}

# A minimal Debian with Python, from the mirror that apt already uses on this machine.
make_base() {
    command -v debootstrap >/dev/null || fail "BASE_IMAGE=debootstrap needs debootstrap (apt-get install debootstrap)"
    local release mirror
    release=$(. /etc/os-release && echo "${VERSION_CODENAME}")
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        "${release}" "${work}/root" "${mirror}" >&2
    tar -C "${work}/root" --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . |
        ${engine} import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            - localhost/base-python:3.11 >&2
    rm -rf "${work}/root"
    echo localhost/base-python:3.11
}

# pip's settings as a file; a CA bundle and local folders of packages that it names are made reachable.
pip_settings() {
    local settings="${work}/pip.conf" bundle folder
    echo "[global]" >"${settings}"
    python3 -m pip config list 2>/dev/null | sed -n "s/^global\.\([a-z-]*\)='\(.*\)'$/\1 = \2/p" >>"${settings}"
    bundle=$(sed -n 's/^cert = //p' "${settings}")
    bundle=${bundle:-${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${SSL_CERT_FILE:-}}}}
    if [ -f "${bundle}" ]; then
        sed -i '/^cert = /d' "${settings}"
        echo "cert = /run/secrets/ca" >>"${settings}"
        build+=(--secret "id=ca,src=${bundle}")
    fi
    for folder in $(grep -oE '(file://)?/[^ ]+' "${settings}" | sed 's|^file://||'); do
        folder=${folder%/simple}
        if [ -d "${folder}" ]; then build+=(--volume "${folder}:${folder}:ro"); fi
    done
    build+=(--secret "id=pip_conf,src=${settings}")
}

engine=$(find_engine)
if [ "${base}" = debootstrap ]; then base=$(make_base); fi
build=(--file Dockerfile --tag "${image}" --build-arg "BASE_IMAGE=${base}" --build-arg "IMAGE=${image}"
    --build-arg "CUDA=${CUDA:-0}" --build-arg "TORCH_INDEX=${TORCH_INDEX:-}")
pip_settings
# shellcheck disable=SC2086  # options are words
DOCKER_BUILDKIT=1 ${engine} build ${BUILD_ARGS:-} "${build[@]}" . ||
    fail "the build failed; where no registry can be reached, BASE_IMAGE=debootstrap makes a base here"
echo "${image}"
