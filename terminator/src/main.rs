//! The binary `sni-terminator`: reads the command line and runs it. All else is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match terminator::Cli::from_arguments() {
        Ok(cli) => cli.run(),
        Err(code) => code,
    }
}
