# The sidecar as an image: one static program, and nothing else in it. docs/INSTALL.md says how to run it, and
# Dockerfile.release makes the same of a released program.
#
# Any image with Rust and a C compiler can build it: docker build --build-arg RUST_IMAGE=… On Alpine the program is
# linked with musl; elsewhere with what is there, just as static.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-alpine3.23

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY xtask xtask
COPY src src
COPY config config
COPY docs docs
# The manifest names them; they are not built.
COPY benches benches
COPY examples examples
RUN host="$(rustc --print host-tuple)" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --release --bin pulse-telemetry --target "$host" --target-dir /target \
    && mkdir -p /image/var/lib/pulse-telemetry && chmod 1777 /image/var/lib/pulse-telemetry \
    && cp "/target/$host/release/pulse-telemetry" /image/

FROM scratch
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="pulse-telemetry" \
      org.opencontainers.image.description="The telemetry of a Pulse installation, outside Pulse" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
# The program, and the directory from which a new volume takes its mode: every user may write there, and makes a
# directory of its own.
COPY --from=build /image /
ENV PULSE_TELEMETRY_STATE__DIR=/var/lib/pulse-telemetry/state
USER 65532:65532
VOLUME ["/var/lib/pulse-telemetry"]
EXPOSE 7656
# Asks the daemon at serve.listen, within this container.
HEALTHCHECK --interval=1m --timeout=15s --start-period=30s CMD ["/pulse-telemetry", "healthcheck"]
ENTRYPOINT ["/pulse-telemetry"]
CMD ["run"]
