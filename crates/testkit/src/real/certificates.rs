//! Certificates and keys of one cluster, written to its folder. In: a folder. Out: files for the servers, PEM for clients.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// What clients need.
#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) ca_pem: String,
    pub(super) admin_certificate: String,
    pub(super) admin_key: String,
}

/// Makes a CA and all that it signs. Files: `ca.crt`, `server.crt`, `server.key`, `accounts.key`, `accounts.pub`.
pub(super) fn write(folder: &Path) -> Certificates {
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a cluster for tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_pem = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    file("ca.crt", &ca_pem);

    let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1"];
    let (certificate, key) = leaf(&issuer, &names, "kube-apiserver", "", ExtendedKeyUsagePurpose::ServerAuth);
    file("server.crt", &certificate);
    file("server.key", &key);
    let accounts = KeyPair::generate().unwrap();
    file("accounts.key", &accounts.serialize_pem());
    file("accounts.pub", &accounts.public_key_pem());
    let (admin_certificate, admin_key) =
        leaf(&issuer, &[], "admin", "system:masters", ExtendedKeyUsagePurpose::ClientAuth);
    let (controllers, controllers_key) =
        leaf(&issuer, &[], "system:kube-controller-manager", "", ExtendedKeyUsagePurpose::ClientAuth);
    file("controllers.crt", &controllers);
    file("controllers.key", &controllers_key);
    Certificates { ca_pem, admin_certificate, admin_key }
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    names: &[&str],
    common_name: &str,
    organization: &str,
    purpose: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if !organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}
