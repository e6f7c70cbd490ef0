//! TLS towards backends, from the file to the model.

use super::context::{Context, or_default};
use super::tls::min_version;
use crate::client_rule::Sha256;
use crate::field::Field;
use crate::file::{BackendClientCertificateFile, BackendTlsFile, ConfigFile};
use crate::model::{BackendTls, CertificateSource};
use crate::name::FilePath;
use crate::text::Text;

/// The client certificate for the backends of all tenants that have none of their own.
pub(super) fn default_client_certificate(
    context: &Context<'_>,
    file: &ConfigFile,
) -> Option<Option<CertificateSource>> {
    context.group(&file.backend_tls, "backendTls", None, |context, file| {
        client_certificate(&context, &file.client_certificate)
    })
}

/// The field `backendTls` of a tenant of mode Terminate.
pub(super) fn backend_tls(
    context: &Context<'_>,
    field: &Field<BackendTlsFile>,
    default_client: Option<&CertificateSource>,
) -> Option<Option<BackendTls>> {
    context.group(field, "backendTls", None, |context, file| {
        let ca = context.list(&file.ca, "ca", |_, path: &Text<FilePath>| Some(path.0.0.clone()));
        let pins = context.list(&file.pins, "pins", |_, pin: &Text<Sha256>| Some(pin.0));
        let own = client_certificate(&context, &file.client_certificate);
        let min_version = min_version(&file.min_version);
        let pass_alpn = or_default(&file.pass_alpn, &false);
        let server_name = if file.server_name.is_missing() {
            Some(None)
        } else {
            file.server_name.value().map(|name| Some(name.0.clone()))
        };
        let (ca, pins) = (ca?, pins?);
        if ca.is_empty() && pins.is_empty() {
            let message = "needs `ca` or `pins`: without them any certificate would do";
            context.report.error(context.at, context.path, message);
            return None;
        }
        Some(Some(BackendTls {
            server_name: server_name?,
            ca,
            pins,
            client_certificate: own?.or_else(|| default_client.cloned()),
            min_version: min_version?,
            pass_alpn: *pass_alpn?,
        }))
    })
}

fn client_certificate(
    context: &Context<'_>,
    field: &Field<BackendClientCertificateFile>,
) -> Option<Option<CertificateSource>> {
    context.group(field, "clientCertificate", None, |context, file| {
        let pair = !(file.certificate.is_missing() && file.key.is_missing());
        match (!file.secret_dir.is_missing(), pair) {
            (true, false) => Some(Some(CertificateSource::SecretDir(file.secret_dir.value()?.0.0.clone()))),
            (false, true) => {
                let certificate = context.required(&file.certificate, "certificate");
                let key = context.required(&file.key, "key");
                Some(Some(CertificateSource::Files { certificate: certificate?.0.0.clone(), key: key?.0.0.clone() }))
            }
            (both, _) => {
                let wrong = if both { "two sources: keep" } else { "no source: write" };
                let message = format!("has {wrong} `secretDir`, or `certificate` and `key`");
                context.report.error(context.at, context.path, message);
                None
            }
        }
    })
}
