# The image of one service in one mode: docker build --build-arg SERVICE=userservice --build-arg MODE=sync .
# The first stage does not know which service is wanted, so all ten of a mode share one build of the workspace.
FROM rust:1.95-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends rsync && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG MODE
# Sources and target folder stay in a cache, and only files whose content changed are touched there: cargo rebuilds what changed,
# and what it goes by, the time of a file, is right whichever checkout the sources come from. Linked with the C library in it (which
# resolves names by files and DNS without help since glibc 2.34), a service needs nothing of the image but certificates and users.
RUN --mount=type=cache,id=study-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=study-build,target=/build,sharing=locked \
    rsync --recursive --links --perms --checksum --delete --exclude /target ./ /build/ \
    && host=$(rustc --print host-tuple) \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --manifest-path /build/Cargo.toml --release --locked --target "$host" \
        --package '*service' --no-default-features --features "${MODE:?is sync or async}" \
    && mkdir /services \
    && for manifest in *service/Cargo.toml; do cp "/build/target/$host/release/${manifest%/*}" /services/ || exit 1; done

FROM gcr.io/distroless/static-debian12:nonroot
ARG SERVICE
ARG MODE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="${SERVICE} (${MODE})" \
      org.opencontainers.image.description="One of ten services of a comparison of synchronous and event-driven microservices" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /services/${SERVICE} /service
ENV LISTEN_ADDR=0.0.0.0:8000
EXPOSE 8000
# Each check is a process: not too often on a small machine. `up --wait` waits for the first.
HEALTHCHECK --interval=5s --timeout=3s --retries=12 CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
