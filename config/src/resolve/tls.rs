//! TLS towards clients, from the file to the model.

use std::collections::HashSet;
use std::path::PathBuf;

use super::client_validation::client_validation;
use super::context::{Context, or_default};
use crate::endpoint::Endpoint;
use crate::field::Field;
use crate::file::{CertificateFile, TlsFile, TlsVersionFile};
use crate::model::{CertificateSource, ClientValidation, TlsVersion};
use crate::name::FilePath;
use crate::text::Text;
use crate::yaml::quoted;

/// The parts of [`Terminate`](crate::model::Terminate) that `tls` gives.
pub(super) struct Tls {
    pub(super) certificates: Vec<CertificateSource>,
    pub(super) generate: bool,
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) external_endpoints: Vec<Endpoint>,
    pub(super) min_version: TlsVersion,
    pub(super) alpn: Vec<String>,
    pub(super) client_validation: ClientValidation,
}

/// The field `tls` of a tenant of mode Terminate.
pub(super) fn tls(context: &Context<'_>, field: &Field<TlsFile>) -> Option<Tls> {
    if field.is_missing() {
        let path = context.path.field("tls");
        let message = "is missing: mode Terminate needs a certificate, such as `{ secretDir: /etc/tenants/acme }`";
        context.report.error(context.at, &path.field("certificates"), message);
    }
    context.group(field, "tls", None, |context, file| {
        let mut generate = Generate::default();
        let certificates = context.non_empty_list(&file.certificates, "certificates", |context, file| {
            if generate.is_asked_for(&context, file) { Some(None) } else { certificate(&context, file).map(Some) }
        });
        let ca_bundle = if file.ca_bundle.is_missing() {
            Some(None)
        } else {
            file.ca_bundle.value().map(|path| Some(path.0.0.clone()))
        };
        let external_endpoints =
            context.list(&file.external_endpoints, "externalEndpoints", |_, endpoint| Some(endpoint.0.clone()));
        let min_version = min_version(&file.min_version);
        let alpn = alpn(&context, &file.alpn);
        let none = ClientValidation::None;
        let client_validation = context.group(&file.client_validation, "clientValidation", none, |context, file| {
            client_validation(&context, file)
        });
        Some(Some(Tls {
            certificates: certificates?.into_iter().flatten().collect(),
            generate: generate.0,
            ca_bundle: ca_bundle?,
            external_endpoints: external_endpoints?,
            min_version: min_version?,
            alpn: alpn?,
            client_validation: client_validation?,
        }))
    })?
}

/// The field `minVersion`, towards clients or backends.
pub(super) fn min_version(field: &Field<TlsVersionFile>) -> Option<TlsVersion> {
    Some(match or_default(field, &TlsVersionFile::V1_2)? {
        TlsVersionFile::V1_2 => TlsVersion::V1_2,
        TlsVersionFile::V1_3 => TlsVersion::V1_3,
    })
}

/// Whether one of the list is `generate`, which holds for the whole tenant.
#[derive(Default)]
struct Generate(bool);

impl Generate {
    fn is_asked_for(&mut self, context: &Context<'_>, file: &CertificateFile) -> bool {
        let Some(wanted) = file.generate.value() else { return false };
        let error = |message| context.report.error(file.generate.at(), &context.path.field("generate"), message);
        if !wanted {
            error("is only ever true: remove it");
        } else if std::mem::replace(&mut self.0, true) {
            error("is given twice: a tenant has one CA of its own");
        } else if !(file.secret_dir.is_missing() && file.certificate.is_missing() && file.key.is_missing()) {
            error("has files beside it: list them as a certificate of its own, which then comes first");
        }
        true
    }
}

fn certificate(context: &Context<'_>, file: &CertificateFile) -> Option<CertificateSource> {
    let later = context.not_yet_in_certificate(file);
    let path = |field: &Field<_>| field.value().map(|text: &Text<FilePath>| text.0.0.clone());
    let pair = !(file.certificate.is_missing() && file.key.is_missing());
    match (!file.secret_dir.is_missing(), pair) {
        (true, false) => Some(CertificateSource::SecretDir(path(&file.secret_dir)?)),
        (false, true) => {
            let certificate = context.required(&file.certificate, "certificate");
            let key = context.required(&file.key, "key");
            Some(CertificateSource::Files { certificate: certificate?.0.0.clone(), key: key?.0.0.clone() })
        }
        (true, true) => {
            context.report.error(
                context.at,
                context.path,
                "has two sources: keep `secretDir`, or `certificate` and `key`",
            );
            None
        }
        (false, false) => {
            if !later {
                let message = "has no source: write `secretDir`, or `certificate` and `key`, or `generate: true`";
                context.report.error(context.at, context.path, message);
            }
            None
        }
    }
}

fn alpn(context: &Context<'_>, field: &Field<Vec<Field<String>>>) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    context.list(field, "alpn", |context, protocol| {
        if !(1..=MAX_ALPN_BYTES).contains(&protocol.len()) {
            let message = format!("{} is no protocol: write 1 to {MAX_ALPN_BYTES} bytes", quoted(protocol));
            context.report.error(context.at, context.path, message);
            None
        } else if !seen.insert(protocol) {
            let message = format!("{} is listed twice", quoted(protocol));
            context.report.error(context.at, context.path, message);
            None
        } else {
            Some(protocol.clone())
        }
    })
}

/// RFC 7301 section 3.1: a protocol's name has one length byte.
const MAX_ALPN_BYTES: usize = 255;
