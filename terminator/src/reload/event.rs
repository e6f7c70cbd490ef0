//! What a look at the tenant's files brings to light, and the line that says so to whoever has to act.

use tracing::{info, warn};

use crate::certificates::{Finding, Moment, ServedCertificate};

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
        matches!(self, Self::Renewed { .. } | Self::ClientsChanged { .. } | Self::BackendCasChanged { .. })
    }
}

/// One line for each event.
pub(crate) fn report(event: &Event) {
    match event {
        Event::Renewed { certificate, before } => {
            let leaf = &certificate.leaf;
            let (certificate, serial, names) = (&certificate.name, &leaf.serial, leaf.dns_names.join(" "));
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
