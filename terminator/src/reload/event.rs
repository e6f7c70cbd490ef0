//! What a look at the tenant's files brings to light, and the line that says so to whoever has to act.

use std::path::PathBuf;

use tracing::{error, info, warn};

use crate::certificates::{Finding, Moment, NotStapled, ServedCertificate, Staple};
use crate::generated::Made;

/// What a look at the files brought to light.
#[derive(Debug)]
pub(crate) enum Event {
    /// A certificate is served that was not served before.
    Renewed {
        /// It, with what it serves.
        certificate: Box<ServedCertificate>,
        /// The serial of the one that it replaces.
        before: Option<String>,
    },
    /// Something is not as it should be about a certificate that is served all the same.
    Doubtful {
        /// The certificate's name.
        name: String,
        /// What it is.
        finding: Finding,
    },
    /// The files hold nothing that can be served.
    Kept {
        /// The certificate's name.
        name: String,
        /// Why not.
        problem: String,
        /// What is served instead; `None` when there never was anything.
        serving: Option<(String, Moment)>,
    },
    /// Another OCSP response is stapled, or none.
    Stapled {
        /// The certificate's name.
        name: String,
        /// It, or why it is not; `None` where there is no file any more.
        staple: Option<Result<Staple, NotStapled>>,
    },
    /// There is no file where a certificate is looked for, and none is needed.
    NotFound {
        /// The certificate's name.
        name: String,
        /// Which files.
        problem: String,
    },
    /// Something was made for the generated certificate.
    Generated(Made),
    /// The generated certificate is served, or a new one of them.
    GeneratedInUse {
        /// It.
        certificate: Box<ServedCertificate>,
    },
    /// Certificates from outside are served instead of a generated one.
    ExternalInUse,
    /// What was generated and is no longer used was removed.
    CleanedUp,
    /// Nothing can be generated, or removed.
    GenerateFailed {
        /// Why not.
        problem: String,
    },
    /// Clients are told to trust other CAs.
    Advertised {
        /// How many; none leaves clients to what they trust anyway.
        authorities: usize,
        /// Where everybody finds them.
        file: Option<PathBuf>,
    },
    /// The files of the CAs that clients are told to trust cannot be used, or not be told.
    AdvertisedKept {
        /// Why not.
        problem: String,
    },
    /// The files hold again what is served already.
    Recovered {
        /// The certificate's name.
        name: String,
    },
    /// Other CAs or revocation lists are in force.
    ClientsChanged {
        /// How many CAs.
        authorities: usize,
        /// How many lists.
        revocation_lists: usize,
    },
    /// The files of the CAs or lists cannot be used; those before stay in force.
    ClientsKept {
        /// Why not.
        problem: String,
    },
    /// The files of the CAs and lists hold again what is in force already.
    ClientsRecovered,
    /// Backends are verified by other CAs.
    BackendCasChanged {
        /// How many CAs.
        authorities: usize,
    },
    /// The files of the backends' CAs cannot be used; those before stay in force.
    BackendCasKept {
        /// Why not.
        problem: String,
    },
    /// The files of the backends' CAs hold again what is in force already.
    BackendCasRecovered,
}

impl Event {
    /// Whether handshakes have to be served differently from here on.
    pub(crate) fn changes_what_is_served(&self) -> bool {
        matches!(
            self,
            Self::Renewed { .. }
                | Self::ClientsChanged { .. }
                | Self::Stapled { .. }
                | Self::GeneratedInUse { .. }
                | Self::ExternalInUse
                | Self::Advertised { .. }
                | Self::BackendCasChanged { .. }
        )
    }
}

/// One line for each event.
pub(crate) fn report(event: &Event) {
    match event {
        Event::Renewed { certificate, before } => {
            let leaf = &certificate.leaf;
            let (certificate, serial, names) = (&certificate.name, &leaf.serial, leaf.names().join(" "));
            let not_after = Moment(leaf.not_after);
            match before {
                Some(before) => {
                    info!(certificate, serial, before, names, %not_after, "certificate renewed: new connections get it");
                }
                None => info!(certificate, serial, names, %not_after, "certificate loaded"),
            }
        }
        Event::Doubtful { name, finding } => warn!(certificate = name, "certificate {finding}"),
        Event::Kept { name, problem, serving: Some((serial, not_after)) } => {
            warn!(certificate = name, problem, serial, %not_after, "certificate files cannot be used: still serving the last good certificate");
        }
        Event::Kept { name, problem, serving: None } => {
            warn!(certificate = name, problem, "certificate files cannot be used: going on without this certificate");
        }
        Event::Stapled { name, staple: Some(Ok(staple)) } => {
            let until = staple.next_update.map(|end| end.to_string()).unwrap_or_default();
            info!(certificate = name, until, "OCSP response stapled");
        }
        Event::Stapled { name, staple: Some(Err(reason)) } => {
            warn!(certificate = name, "OCSP response is not stapled: the file {reason}");
        }
        Event::Stapled { name, staple: None } => info!(certificate = name, "OCSP response is gone: none is stapled"),
        Event::NotFound { name, problem } => info!(certificate = name, problem, "external certificate not in use"),
        Event::Generated(Made::Authority { not_after }) => info!(%not_after, "CA generated"),
        Event::Generated(Made::NextAuthority { not_after }) => {
            info!(%not_after, "next CA generated: clients are told to trust it, it signs in 30 days at the earliest");
        }
        Event::Generated(Made::Promotion) => info!("the next CA signs from now on"),
        Event::Generated(Made::Certificate { serial, not_after }) => {
            info!(serial, %not_after, "certificate generated");
        }
        Event::GeneratedInUse { certificate } => {
            let leaf = &certificate.leaf;
            let (serial, names, not_after) = (&leaf.serial, leaf.names().join(" "), Moment(leaf.not_after));
            info!(serial, names, %not_after, "generated certificate in use");
        }
        Event::ExternalInUse => info!("external certificate in use: nothing is generated"),
        Event::CleanedUp => info!("cleaned up: generated CA, certificate and keys are removed"),
        Event::GenerateFailed { problem } => error!(problem, "no certificate can be generated or cleaned up"),
        Event::Advertised { authorities, file } => {
            let file = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            info!(authorities, file, "CA bundle advertised");
        }
        Event::AdvertisedKept { problem } => {
            warn!(problem, "the CA bundle cannot be advertised: the last good one stays");
        }
        Event::Recovered { name } => info!(certificate = name, "certificate files are in order again"),
        Event::ClientsChanged { authorities, revocation_lists } => {
            info!(authorities, revocation_lists, "client CAs renewed: new connections are checked against them");
        }
        Event::ClientsKept { problem } => {
            warn!(problem, "client CA or revocation files cannot be used: the last good ones stay in force");
        }
        Event::ClientsRecovered => info!("client CA and revocation files are in order again"),
        Event::BackendCasChanged { authorities } => {
            info!(authorities, "backend CAs renewed: new connections to backends are verified by them");
        }
        Event::BackendCasKept { problem } => {
            warn!(problem, "backend CA files cannot be used: the last good ones stay in force");
        }
        Event::BackendCasRecovered => info!("backend CA files are in order again"),
    }
}
