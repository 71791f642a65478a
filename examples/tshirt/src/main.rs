//! The program `tshirt`: the booth's operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    tshirt::main_from_args(std::env::args_os().collect())
}
