//! The `crashkeep` binary. All code is in the library.

/// Instead of musl's own allocator, which is slow when several threads use it (ADR 29).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    crashkeep::cli::main()
}
