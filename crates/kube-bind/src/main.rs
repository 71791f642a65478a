//! The program `kube-bind`: `demo` and `dev`, and every other program of the project under its own name.

use std::process::ExitCode;

fn main() -> ExitCode {
    kube_bind::main_from_args(std::env::args_os().collect())
}
