# syntax=docker/dockerfile:1
# Build:  script/image
# Run:    docker run -p 8080:8080 -v freqcap:/data -v "$PWD/keys.toml:/keys/keys.toml:ro" -e FREQCAP_KEYS_FILE=/keys/keys.toml freqcap
# Without keys it does not start, unless FREQCAP_OPEN=true says that something in front decides who may call.
# The base images can be replaced by mirrors of your own (--build-arg). Keep both on one Debian release: the binary
# uses the C library that it was built with.
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
# g++ compiles RocksDB, libclang reads its C header; librdkafka wants make and OpenSSL's headers. (The Rust image has
# most of it; a slim one has not.)
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++ libclang-dev libssl-dev make pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The two caches make the second build a matter of a minute instead of a quarter of an hour (RocksDB). The build does
# not count on them: an empty cache costs time and nothing else. The binary is copied out, for a cache is no part of the
# image.
RUN --mount=type=cache,id=freqcap-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=freqcap-target,target=/build/target,sharing=locked \
    cargo build --release --locked --workspace --bin freqcap \
 && cp target/release/freqcap /usr/local/bin/freqcap

FROM ${RUNTIME_IMAGE}
# ca-certificates for rediss:// (Redis over TLS), libstdc++ for RocksDB, libssl3 for Kafka over TLS.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates libssl3 libstdc++6 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 freqcap \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin freqcap \
 && install --directory --owner=10001 --group=10001 /data /keys
COPY --from=build /usr/local/bin/freqcap /usr/local/bin/freqcap

LABEL org.opencontainers.image.title="freqcap" \
      org.opencontainers.image.description="Ad frequency capping: exact sliding-window counts per user and ad" \
      org.opencontainers.image.licenses="Apache-2.0"

# Numbers, not names: Kubernetes' runAsNonRoot can then see that this is not root.
USER 10001:10001
# With PORT set and no --listen, freqcap listens on 0.0.0.0:$PORT, if it has keys (FREQCAP_KEYS_FILE) or is told to be open. A
# platform that sets its own PORT wins.
ENV PORT=8080 \
    FREQCAP_DATA_DIR=/data \
    FREQCAP_EXIT_WHEN_POISONED=true
EXPOSE 8080
# One data directory belongs to one process; give every instance a volume of its own.
VOLUME /data
# SIGTERM drains: finish what is accepted, flush, exit 0. It takes up to 10 s; allow that much before SIGKILL.
STOPSIGNAL SIGTERM
# Asks /healthz on 127.0.0.1:$PORT. 503 there means: a write failed, restart me.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["freqcap", "healthcheck"]
ENTRYPOINT ["freqcap"]
CMD ["serve"]
