# The usual commands; `just` alone lists them.
default:
    @just --list

# Format and lints.
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# All tests. Those whose client program is missing are skipped and say so.
test:
    cargo test --locked

# All benches, or those that are named: `just bench search naming`.
bench *names:
    cargo bench --locked --bench appliance -- {{names}}

# Everything that must hold before a change lands.
ci:
    bash .ci/run

# What people install, into target/dist: a static binary, a Debian package, a folder for a container image.
# Needs Debian's musl-tools and make; `just dist x86_64 aarch64` also gcc-aarch64-linux-gnu, musl-dev:arm64 and
# qemu-user-static.
dist *cpus:
    packaging/dist {{cpus}}

# The attacks on a release build.
attacks:
    cargo build --locked --release
    tests/attacks/run

# One fuzz target for a minute (needs cargo-fuzz).
fuzz target:
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run {{target}} -- -max_total_time=60 -rss_limit_mb=8192

# What takes longer than CI should: attacks, packages on a clean machine (needs root), the check for Windows (needs
# gcc-mingw-w64-x86-64), the suite five times on a busy machine, every fuzz target for a minute.
long: attacks dist
    tests/packages/run
    tests/packages/container
    rustup target add x86_64-pc-windows-gnu
    cargo check --locked --target x86_64-pc-windows-gnu
    bash .ci/busy 5 cargo test --locked
    bash .ci/fuzz 60
