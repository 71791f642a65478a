//! The program `konnector`.

fn main() -> std::process::ExitCode {
    konnector::main_from_args(std::env::args_os().collect())
}
