//! The `crashkeep` binary. All code is in the library.

/// musl's own allocator is slow when several threads use it (ADR 29).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    crashkeep::cli::main()
}
