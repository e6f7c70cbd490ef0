//! docs/certificate-rotation.md: its configuration is one, and its manifests are what cert-manager takes and fit together.

use std::fs;

use config::{CertificateSource, Config, Mode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tests::binaries::workspace_folder;

#[test]
fn the_configurations_are_valid() {
    let blocks = blocks();
    let config = Config::from_yaml(blocks.first().unwrap()).unwrap();
    let Mode::Terminate(terminate) = &config.tenants[0].mode else { panic!("mode") };
    assert!(terminate.client_validation.trust().is_some_and(|trust| trust.allow.len() == 1));

    let certificates = blocks.iter().find(|block| block.contains("generate: true")).unwrap();
    let tenant = Config::from_yaml(&format!(
        "listeners: [{{ name: tls, address: '127.0.0.1:1' }}]\ntenants:\n  - name: acme\n    hostnames: [a.example]\n    \
         mode: Terminate\n    backends: [{{ address: '127.0.0.1:1' }}]\n    tls:\n  {}",
        certificates.replace('\n', "\n  ")
    ))
    .unwrap();
    let Mode::Terminate(terminate) = &tenant.tenants[0].mode else { panic!("mode") };
    assert!(terminate.generate);
    let [CertificateSource::SecretDir(folder)] = &terminate.certificates[..] else { panic!("sources") };
    assert_eq!(folder.to_str(), Some(pod().mount_path()));
}

#[test]
fn the_manifests_are_cert_managers_and_fit_together() {
    let manifests = blocks().into_iter().find(|block| block.contains("cert-manager.io/v1")).unwrap();
    let (mut issuers, mut certificates) = (Vec::new(), Vec::new());
    for manifest in manifests.split("\n---\n") {
        let Manifest { api_version, kind, metadata, spec } = parse(manifest);
        assert_eq!(api_version, "cert-manager.io/v1");
        match kind.as_str() {
            "ClusterIssuer" | "Issuer" => {
                // One of the ways to issue, and it alone (IssuerConfig, CRD clusterissuers.cert-manager.io).
                let IssuerSpec { ca } = serde_json::from_value(spec).unwrap();
                assert!(!ca.secret_name.is_empty());
                assert_eq!(metadata.namespace.is_none(), kind == "ClusterIssuer", "{}", metadata.name);
                issuers.push((kind, metadata.name));
            }
            "Certificate" => {
                assert!(metadata.namespace.is_some(), "{}: a Secret has a namespace", metadata.name);
                certificates.push(serde_json::from_value::<CertificateSpec>(spec).unwrap());
            }
            other => panic!("{other} is no kind of cert-manager"),
        }
    }
    assert_eq!(certificates.len(), 2);
    for certificate in &certificates {
        let IssuerRef { kind, name } = &certificate.issuer_ref;
        assert!(issuers.contains(&(kind.clone(), name.clone())), "{kind} {name} is not in the document");
        let (duration, before) = (hours(&certificate.duration), hours(&certificate.renew_before));
        assert!(duration >= 1 && before < duration, "{} {}", certificate.duration, certificate.renew_before);
        assert!(!certificate.dns_names.is_empty() || !certificate.uris.is_empty(), "it would identify nobody");
        // KeyUsage of the CRD has more; a certificate for TLS 1.3 with ECDHE needs these (RFC 5280 section 4.2.1.12).
        let auth = if certificate.uris.is_empty() { "server auth" } else { "client auth" };
        assert_eq!(certificate.usages, ["digital signature", auth]);
        if let Some(PrivateKey { algorithm, size, rotation_policy }) = &certificate.private_key {
            assert_eq!((algorithm.as_str(), *size, rotation_policy.as_str()), ("ECDSA", 256, "Always"));
        }
    }
    let pod = pod();
    assert_eq!(pod.volume().secret.secret_name, certificates[0].secret_name, "the server's");
    // What the terminator reads as: its group, which fsGroup gives to the files.
    assert_eq!(pod.volume().secret.default_mode, 0o440);
    assert_eq!(pod.security_context.fs_group, pod.security_context.run_as_group);
}

fn pod() -> PodSpec {
    let block = blocks().into_iter().find(|block| block.contains("fsGroup")).unwrap();
    parse::<Template>(&block).spec
}

/// The YAML of the document, in its order.
fn blocks() -> Vec<String> {
    let text = fs::read_to_string(workspace_folder().join("docs/certificate-rotation.md")).unwrap();
    let after_fences = text.split("```yaml\n").skip(1);
    after_fences.map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// A Go duration of whole hours.
fn hours(duration: &str) -> u32 {
    duration.strip_suffix('h').unwrap().parse().unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerSpec {
    ca: CaIssuer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaIssuer {
    secret_name: String,
}

/// The fields of the CRD certificates.cert-manager.io, version v1, that the document uses; any other fails.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateSpec {
    secret_name: String,
    #[serde(default)]
    dns_names: Vec<String>,
    #[serde(default)]
    uris: Vec<String>,
    duration: String,
    renew_before: String,
    private_key: Option<PrivateKey>,
    usages: Vec<String>,
    issuer_ref: IssuerRef,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrivateKey {
    algorithm: String,
    size: u32,
    rotation_policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Template {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSpec {
    security_context: SecurityContext,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

impl PodSpec {
    fn volume(&self) -> &Volume {
        let [volume] = &self.volumes[..] else { panic!("one tenant's Secret alone") };
        assert_eq!(volume.name, self.mount().name);
        volume
    }

    fn mount_path(&self) -> &str {
        &self.mount().mount_path
    }

    fn mount(&self) -> &VolumeMount {
        let [Container { volume_mounts, .. }] = &self.containers[..] else { panic!("one container") };
        let [mount] = &volume_mounts[..] else { panic!("one mount") };
        assert!(mount.read_only);
        mount
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecurityContext {
    run_as_group: u32,
    fs_group: u32,
    #[serde(rename = "runAsUser")]
    _run_as_user: u32,
    #[serde(rename = "runAsNonRoot")]
    _run_as_non_root: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Container {
    #[serde(rename = "name")]
    _name: String,
    volume_mounts: Vec<VolumeMount>,
}

/// Without subPath, whose mounts are never renewed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VolumeMount {
    name: String,
    mount_path: String,
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Volume {
    name: String,
    secret: SecretVolume,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretVolume {
    secret_name: String,
    default_mode: u32,
    #[serde(rename = "optional")]
    _optional: bool,
}
