# Everything that must hold before a change lands.
ci:
    bash .ci/run

# The attacks on a release build.
attacks:
    cargo build --locked --release
    tests/attacks/run

# What takes longer than CI should: the suite five times in a row on a busy machine, the attacks, and a minute of each
# fuzz target (needs cargo-fuzz).
long: attacks
    bash .ci/busy 5 cargo test --locked
    cd fuzz && for target in $(cargo fuzz list); do \
        RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" -- -max_total_time=60 -rss_limit_mb=8192 || exit 1; done
