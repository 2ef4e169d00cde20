//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kswitch::cli::main()
}
