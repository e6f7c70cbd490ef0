//! Certificates for trying things; `cargo xtask certs` calls it.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    for path in tests::certs::make(&tests::certs::CertsOptions::parse())? {
        println!("{}", path.display());
    }
    Ok(())
}
