# The build host: edgepack with everything it needs, on Debian 12.
#
#   docker build -t edgepack .
#   docker run --rm -v "$PWD:/project" -w /project edgepack check recipe.yaml
#
# Emulated boards (virtual:rpi4) need mounts and user namespaces: docker run --privileged.
# Steps are the Makefile's own; scripts/check-dockerfile.py runs them without Docker (make check-docker).
FROM debian:12

RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev make python3

WORKDIR /opt/edgepack
COPY . .
ARG PIP_ARGS=""
RUN make setup PIP_ARGS="$PIP_ARGS"

ENV PATH="/opt/edgepack/.venv/bin:$PATH"
ENTRYPOINT ["edgepack"]
CMD ["--help"]
