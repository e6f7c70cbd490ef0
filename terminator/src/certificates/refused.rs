//! Which certificate a handshake failed for: rustls' errors tell why, and not which one it was.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;

use super::client_rules::CertificateLabel;

/// To be called by a verifier for the certificate that it refuses.
pub(crate) fn refuse(der: &[u8]) {
    REFUSED.set(Some(CertificateLabel::of(der)));
}

/// Runs a handshake; next to its outcome, the label of the peer's certificate that was refused in it.
pub(crate) async fn with_refused<F: Future>(handshake: F) -> (F::Output, Option<CertificateLabel>) {
    let mut handshake = pin!(handshake);
    let mut refused = None;
    let output = poll_fn(|context| {
        // The verifier runs within the poll of the handshake that it belongs to, and polls do not nest.
        REFUSED.set(None);
        let polled = handshake.as_mut().poll(context);
        refused = REFUSED.take().or(refused.take());
        polled
    })
    .await;
    (output, refused)
}

thread_local! {
    static REFUSED: RefCell<Option<CertificateLabel>> = const { RefCell::new(None) };
}
