# The image of one service in one mode: docker build --build-arg SERVICE=userservice --build-arg MODE=sync .
# SERVICE is the name of a binary. The first stage does not depend on it, so all services of a mode share one build.
FROM rust:1.95-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ make rsync && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG MODE
# A cache mount holds sources and target folder. The copy touches only files whose content changed, because cargo compares
# modification times, which differ between checkouts. The binaries are linked statically with glibc (which resolves names by files
# and DNS without plug-ins since 2.34), so the image needs only certificates and users.
RUN --mount=type=cache,id=study-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=study-build,target=/build,sharing=locked \
    rsync --recursive --links --perms --checksum --delete --exclude /target ./ /build/ \
    && host=$(rustc --print host-tuple) \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --manifest-path /build/Cargo.toml --release --locked --target "$host" \
        --package '*service' --package campus --no-default-features --features "${MODE:?is sync, async or stream}" \
    && mkdir /services \
    && find "/build/target/$host/release" -maxdepth 1 -type f -executable -exec cp {} /services/ \;

FROM gcr.io/distroless/static-debian12:nonroot
ARG SERVICE
ARG MODE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="${SERVICE} (${MODE})" \
      org.opencontainers.image.description="A service of a comparison of synchronous and event-driven microservices" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /services/${SERVICE} /service
ENV LISTEN_ADDR=0.0.0.0:8000
EXPOSE 8000
# Each check starts a process, so the interval must not be too short for a small machine. `up --wait` waits for the first check.
HEALTHCHECK --interval=5s --timeout=3s --retries=12 CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
