//! Installs the real clients that the scenarios run; `cargo xtask test` calls it.

fn main() -> anyhow::Result<()> {
    tests::client_tools::install_missing()
}
