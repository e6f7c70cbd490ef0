//! Client certificates, from the file to the model.

use super::context::Context;
use crate::file::{AllowFile, ClientValidationFile, ClientValidationModeFile, MAX_INTERMEDIATES};
use crate::model::{ClientRule, ClientTrust, ClientValidation};
use crate::name::FilePath;
use crate::text::Text;

/// The field `clientValidation` of `tls`.
pub(super) fn client_validation(context: &Context<'_>, file: &ClientValidationFile) -> Option<ClientValidation> {
    let paths = |field, name| context.list(field, name, |_, path: &Text<FilePath>| Some(path.0.0.clone()));
    let (ca, crl) = (paths(&file.ca, "ca"), paths(&file.crl, "crl"));
    let allow = context.list(&file.allow, "allow", |context, file| rule(&context, file));
    let max_intermediates = if file.max_intermediates.is_missing() {
        Some(None)
    } else {
        let number = context.number(&file.max_intermediates, "maxIntermediates", 0, 0..=MAX_INTERMEDIATES);
        number.map(|number| u8::try_from(number).ok())
    };
    let mode = *context.required(&file.mode, "mode")?;
    let validation: fn(ClientTrust) -> ClientValidation = match mode {
        ClientValidationModeFile::None => return nobody_is_asked(context, file),
        ClientValidationModeFile::Optional => ClientValidation::Optional,
        ClientValidationModeFile::Required => ClientValidation::Required,
    };
    let trust = ClientTrust { ca: ca?, crl: crl?, max_intermediates: max_intermediates?, allow: allow? };
    if trust.ca.is_empty() {
        let at = if file.ca.is_missing() { context.at } else { file.ca.at() };
        let message = format!("mode {mode:?} needs at least one CA file that client certificates must come from");
        context.report.error(at, &context.path.field("ca"), message);
        return None;
    }
    Some(validation(trust))
}

/// Mode None, which leaves nothing to say about certificates.
fn nobody_is_asked(context: &Context<'_>, file: &ClientValidationFile) -> Option<ClientValidation> {
    let mut validation = Some(ClientValidation::None);
    for (name, is_empty, key) in [
        ("ca", file.ca.value().is_none_or(Vec::is_empty), file.ca.key()),
        ("crl", file.crl.value().is_none_or(Vec::is_empty), file.crl.key()),
        ("allow", file.allow.value().is_none_or(Vec::is_empty), file.allow.key()),
        ("maxIntermediates", file.max_intermediates.is_missing(), file.max_intermediates.key()),
    ] {
        if !is_empty {
            let message = "is of no use with mode None: remove it, or choose Optional or Required";
            context.report.error(key, &context.path.field(name), message);
            validation = None;
        }
    }
    validation
}

fn rule(context: &Context<'_>, file: &AllowFile) -> Option<ClientRule> {
    let groups = context.list(&file.groups, "groups", |_, group| Some(group.0.0.clone()));
    let words = [&file.common_name, &file.organizational_unit];
    for (field, name) in words.into_iter().zip(["commonName", "organizationalUnit"]) {
        if field.value().is_some_and(String::is_empty) {
            context.error(field, name, "is empty: write what the certificate must have");
        }
    }
    let named = [
        file.uri.is_missing(),
        file.dns.is_missing(),
        file.common_name.is_missing(),
        file.organizational_unit.is_missing(),
        file.sha256.is_missing(),
    ];
    if named.iter().all(|is_missing| *is_missing) {
        let message = "names nothing: write uri, dns, commonName, organizationalUnit or sha256";
        context.report.error(context.at, context.path, message);
        return None;
    }
    Some(ClientRule {
        uri: file.uri.value().map(|uri| uri.0.clone()),
        dns: file.dns.value().map(|dns| dns.0.clone()),
        common_name: file.common_name.value().cloned(),
        organizational_unit: file.organizational_unit.value().cloned(),
        sha256: file.sha256.value().map(|digest| digest.0),
        groups: groups?,
    })
}
