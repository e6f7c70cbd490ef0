//! Who a verified client certificate belongs to, and whether the tenant's rules let it in. Pure.
//! Verifies no chain: a certificate that comes here has passed that already, or is only being described.

use std::fmt;

use config::{ClientRule, HostnamePattern};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::validity::covers;

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    /// What the first rule that lets it in goes by; without rules its URI (SPIFFE), else its DNS name, else its common
    /// name, else its whole subject.
    pub name: String,
    /// The groups of all rules that let it in, each once.
    pub groups: Vec<String>,
}

/// What identifies one certificate to the people who issued it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateLabel {
    /// The distinguished name.
    pub subject: String,
    /// In hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// SHA-256 of the DER, in lower-case hexadecimal, as a rule has it.
    pub sha256: String,
}

impl CertificateLabel {
    /// Also of bytes that are no certificate: then all but the digest is empty.
    pub(crate) fn of(der: &[u8]) -> Self {
        let sha256 = hex(&Sha256::digest(der), |byte| format!("{byte:02x}"));
        match parse_x509_certificate(der) {
            Ok((_, certificate)) => Self {
                subject: certificate.subject().to_string(),
                serial: hex(certificate.raw_serial(), |byte| format!("{byte:02X}")),
                sha256,
            },
            Err(_) => Self { sha256, ..Self::default() },
        }
    }
}

/// No rule means this certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAllowed;

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no rule of clientValidation.allow lets it in")
    }
}

/// The identity of a certificate that these rules let in; without a rule they let everybody in.
pub(crate) fn admit(rules: &[ClientRule], der: &[u8]) -> Result<ClientIdentity, NotAllowed> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|_| NotAllowed)?;
    let names = Names::of(&certificate);
    if rules.is_empty() {
        return Ok(ClientIdentity { name: names.usual(), groups: Vec::new() });
    }
    let digest: [u8; 32] = Sha256::digest(der).into();
    let mut identity: Option<ClientIdentity> = None;
    for rule in rules {
        let Some(name) = names.matched_by(rule, &digest) else { continue };
        let identity = identity.get_or_insert(ClientIdentity { name, groups: Vec::new() });
        for group in &rule.groups {
            if !identity.groups.contains(group) {
                identity.groups.push(group.clone());
            }
        }
    }
    identity.ok_or(NotAllowed)
}

/// The names of one certificate.
struct Names {
    uris: Vec<String>,
    /// Lower case.
    dns: Vec<String>,
    common_names: Vec<String>,
    organizational_units: Vec<String>,
    subject: String,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
                _ => {}
            }
        }
        let subject = certificate.subject();
        let texts = |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
            attributes.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
        };
        Self {
            uris,
            dns,
            common_names: texts(&mut subject.iter_common_name()),
            organizational_units: texts(&mut subject.iter_organizational_unit()),
            subject: subject.to_string(),
        }
    }

    fn usual(&self) -> String {
        [&self.uris, &self.dns, &self.common_names]
            .into_iter()
            .find_map(|names| names.first().cloned())
            .unwrap_or_else(|| self.subject.clone())
    }

    /// The name by which a rule means this certificate, which must have everything that the rule names.
    fn matched_by(&self, rule: &ClientRule, digest: &[u8; 32]) -> Option<String> {
        let mut name = None;
        if let Some(pattern) = &rule.uri {
            name = Some(self.uris.iter().find(|uri| pattern.matches(uri))?.clone());
        }
        if let Some(pattern) = &rule.dns {
            let matched = self.dns.iter().find(|dns| is_meant(pattern, dns))?;
            name = name.or(Some(matched.clone()));
        }
        if let Some(wanted) = &rule.common_name {
            // Of several common names it is not clear which one the issuer vouches for.
            let [common_name] = self.common_names.as_slice() else { return None };
            (common_name == wanted).then_some(())?;
            name = name.or(Some(common_name.clone()));
        }
        if let Some(wanted) = &rule.organizational_unit {
            self.organizational_units.contains(wanted).then_some(())?;
        }
        if let Some(wanted) = &rule.sha256 {
            (wanted.0 == *digest).then_some(())?;
        }
        Some(name.unwrap_or_else(|| self.usual()))
    }
}

/// A rule's wildcard means the names below it and a certificate's own wildcard of that name; a rule's name means itself,
/// and never what a certificate's wildcard would cover: that is the client's claim, not its name.
fn is_meant(pattern: &HostnamePattern, dns: &str) -> bool {
    match (pattern, HostnamePattern::parse(dns)) {
        (HostnamePattern::Exact(exact), Ok(_)) => exact.as_str() == dns,
        (HostnamePattern::Wildcard(suffix), Ok(name)) => covers(&[format!("*.{}", suffix.as_str())], &name),
        (_, Err(_)) => false,
    }
}

fn hex(bytes: &[u8], digits: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(digits).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, SanType};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::test_pki::Authority;

    fn certificate(common_name: &str, unit: &str, uri: &str, dns: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.subject_alt_names =
            vec![SanType::URI(uri.try_into().unwrap()), SanType::DnsName(dns.try_into().unwrap())];
        let pem = Authority::new("clients").client_with(params).chain_pem;
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn rules(yaml: &str) -> Vec<ClientRule> {
        let text = format!(
            "listeners: [{{name: tls, address: '127.0.0.1:8443'}}]\n\
             tenants: [{{name: a, hostnames: [a.example], mode: Terminate, backends: [{{address: '127.0.0.1:1'}}],\n\
             \x20 tls: {{certificates: [{{secretDir: /s}}], clientValidation: {{mode: Required, ca: [/c], allow: {yaml}}}}}}}]"
        );
        let config = config::Config::from_yaml(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let config::Mode::Terminate(terminate) = &config.tenants[0].mode else { panic!("mode") };
        terminate.client_validation.trust().unwrap().allow.clone()
    }

    #[test]
    fn each_kind_of_rule_means_what_it_names() {
        let client = certificate("manager", "ops", "spiffe://acme/prod/web", "web.acme.example");
        let digest = CertificateLabel::of(&client).sha256;
        for (rule, name) in [
            ("uri: 'spiffe://acme/prod/*'", "spiffe://acme/prod/web"),
            ("dns: web.acme.example", "web.acme.example"),
            ("dns: '*.acme.example'", "web.acme.example"),
            ("commonName: manager", "manager"),
            ("organizationalUnit: ops", "spiffe://acme/prod/web"),
            (&format!("sha256: '{digest}'"), "spiffe://acme/prod/web"),
            ("commonName: manager, organizationalUnit: ops", "manager"),
        ] {
            let identity = admit(&rules(&format!("[{{ {rule}, groups: [g] }}]")), &client);
            assert_eq!(identity, Ok(ClientIdentity { name: name.into(), groups: vec!["g".into()] }), "{rule}");
        }
        for rule in [
            "uri: 'spiffe://acme/*'",
            "uri: 'spiffe://acme/test/*'",
            "dns: acme.example",
            "dns: '*.example'",
            "commonName: Manager",
            "organizationalUnit: dev",
            "sha256: '0000000000000000000000000000000000000000000000000000000000000000'",
            "commonName: manager, organizationalUnit: dev",
        ] {
            assert_eq!(admit(&rules(&format!("[{{ {rule} }}]")), &client), Err(NotAllowed), "{rule}");
        }
    }

    #[test]
    fn groups_of_all_rules_come_together_and_the_first_rule_names_the_client() {
        let client = certificate("manager", "ops", "spiffe://acme/prod/web", "web.acme.example");
        let rules = rules(
            "[{ commonName: nobody, groups: [x] }, { commonName: manager, groups: [a, b] }, \
             { organizationalUnit: ops, groups: [b, c] }]",
        );
        let identity = admit(&rules, &client).unwrap();
        assert_eq!((identity.name.as_str(), identity.groups.join(" ")), ("manager", "a b c".to_owned()));
    }

    #[test]
    fn without_rules_everybody_is_let_in_by_the_usual_name() {
        let client = certificate("manager", "ops", "spiffe://acme/prod/web", "web.acme.example");
        assert_eq!(admit(&[], &client).unwrap().name, "spiffe://acme/prod/web");
        assert_eq!(admit(&[], b"no certificate"), Err(NotAllowed));
    }

    #[test]
    fn a_clients_wildcard_is_no_name_below_it() {
        let client = certificate("m", "o", "spiffe://a/b", "*.acme.example");
        assert_eq!(admit(&rules("[{ dns: web.acme.example }]"), &client), Err(NotAllowed));
        assert!(admit(&rules("[{ dns: '*.acme.example' }]"), &client).is_ok());
    }
}
