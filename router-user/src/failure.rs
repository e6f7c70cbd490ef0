//! Why a command of the program ended without success, and the exit code that says so.

use std::process::ExitCode;

use config::LoadError;

/// Why a command ended without success; the exit codes are part of the contract.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration file is wrong: exit code 1. Its lines begin with the file's name, as editors like it.
    #[error("{0}")]
    Config(LoadError),
    /// Other input is wrong: exit code 1.
    #[error("sni-router: {0}")]
    Input(String),
    /// The system refused: exit code 2.
    #[error("sni-router: {0}")]
    System(String),
    /// The input is wrong and the standard output says why already: exit code 1.
    #[error("the input is wrong")]
    Told,
    /// A child process ended like this and has said why itself.
    #[error("the router ended with exit code {0}")]
    Child(u8),
}

impl Failure {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Input(_) | Self::Told => ExitCode::from(1),
            Self::System(_) => ExitCode::from(2),
            Self::Child(code) => ExitCode::from(*code),
        }
    }
}
