//! The line that tells whoever has to act of an end that comes nearer, or has come.

use tracing::{error, warn};

use crate::certificates::{EndingKind, Moment, Stage, Warning};

/// One line, with what it means for clients and what to do.
pub(super) fn report_ending(warning: &Warning, now: Moment) {
    let ending = &warning.ending;
    let (name, subject, serial, not_after) = (&ending.name, &ending.subject, &ending.serial, Moment(ending.not_after));
    if warning.stage == Stage::Expired {
        match ending.kind {
            EndingKind::Own => {
                error!(certificate = name, serial, %not_after, "certificate has expired: clients refuse it; renew it now");
            }
            EndingKind::Issuer => {
                error!(certificate = name, subject, serial, %not_after, "an issuer in the certificate's file has expired: clients refuse the chain; renew it now");
            }
            EndingKind::AdvertisedCa => {
                error!(file = name, subject, serial, %not_after, "a CA that clients are told to trust has expired: replace it");
            }
            EndingKind::RevocationList => {
                error!(file = name, issuer = subject, %not_after, "revocation list is outdated: every client of this CA is refused; publish the next list now");
            }
            // Trust in an anchor does not end with its dates (RFC 5280 section 6.1.1), so nobody is refused yet.
            EndingKind::ClientCa | EndingKind::BackendCa => {
                warn!(file = name, subject, serial, %not_after, "{} has expired: replace it, or remove it", words(ending.kind));
            }
        }
        return;
    }
    let days = (not_after.0 - now.0) / SECONDS_PER_DAY;
    match ending.kind {
        EndingKind::Own => {
            warn!(certificate = name, serial, %not_after, days, "certificate expires soon: renew it");
        }
        EndingKind::Issuer => {
            warn!(certificate = name, subject, serial, %not_after, days, "an issuer in the certificate's file expires soon: renew the chain");
        }
        EndingKind::RevocationList => {
            warn!(file = name, issuer = subject, %not_after, "revocation list ends soon: every client of this CA is refused without the next one");
        }
        EndingKind::AdvertisedCa | EndingKind::ClientCa | EndingKind::BackendCa => {
            warn!(file = name, subject, serial, %not_after, days, "{} expires soon: add its successor beside it", words(ending.kind));
        }
    }
}

fn words(kind: EndingKind) -> &'static str {
    match kind {
        EndingKind::BackendCa => "a CA of backends",
        EndingKind::AdvertisedCa => "a CA that clients are told to trust",
        _ => "a CA of clients",
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
