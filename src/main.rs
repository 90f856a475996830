//! The `crashkeep` binary. All code is in the library.

fn main() -> std::process::ExitCode {
    crashkeep::cli::main()
}
