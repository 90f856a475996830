//! The `crashkeep` binary: everything lives in the library.

fn main() -> std::process::ExitCode {
    crashkeep::cli::main()
}
