//! The program `mangodb`: MangoDB Inc.'s operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    mangodb::main_from_args(std::env::args_os().collect())
}
