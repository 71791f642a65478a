//! The program `kubectl-bind`; kubectl finds it on PATH as `kubectl bind`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_bind::main_from_args(std::env::args_os().collect())
}
