//! The program `kube-bind-backend`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::main_from_args(std::env::args_os().collect())
}
