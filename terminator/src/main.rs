//! The binary `sni-terminator`: reads the command line and runs it. All else is in the library.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Keys pass through buffers of libraries, such as those that decode PEM; whatever is freed here is overwritten first.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    match terminator::Cli::from_arguments() {
        Ok(cli) => cli.run(),
        Err(code) => code,
    }
}
