//! Client certificates.
//!
//! In: the certificate that TLS has verified against our CA. Out: the user, as Kubernetes reads it (common name is
//! the user, organisations are the groups), and the logical cluster from the subject alternative name
//! `urn:logical-cluster:<name>`. Also makes such certificates. Called by [`crate::auth::Auth::authenticate`] and by
//! who hands out administrators' credentials.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use x509_parser::extensions::GeneralName;

use super::AUTHENTICATED;
use crate::request::UserInfo;

const CLUSTER_URN: &str = "urn:logical-cluster:";

/// Why a certificate is no credential, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("the client certificate cannot be read: {0}")]
    Malformed(String),
    /// No common name.
    #[error("the client certificate has no common name, so no user")]
    NoUser,
    /// No logical cluster.
    #[error("the client certificate names no logical cluster (subject alternative name {CLUSTER_URN}<name>)")]
    NoCluster,
    /// It could not be made.
    #[error("cannot make a client certificate for {user:?}: {reason}")]
    Issue {
        /// The user it was for.
        user: String,
        /// What the library said.
        reason: String,
    },
}

/// Who a verified client certificate stands for.
///
/// # Errors
/// It is malformed or lacks the user or the logical cluster.
pub fn identity(der: &[u8]) -> Result<UserInfo, CertificateError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|error| CertificateError::Malformed(error.to_string()))?;
    let subject = certificate.subject();
    let username = subject
        .iter_common_name()
        .find_map(|name| name.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or(CertificateError::NoUser)?
        .to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Malformed(error.to_string()))?
        .ok_or(CertificateError::NoCluster)?;
    let cluster = names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(CLUSTER_URN).filter(|name| !name.is_empty()),
            _ => None,
        })
        .ok_or(CertificateError::NoCluster)?
        .to_owned();
    Ok(UserInfo { username, groups, cluster: Some(cluster), ..UserInfo::default() })
}

/// A client certificate and its private key, both PEM.
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

/// Makes a client certificate for a user of one logical cluster (with [`crate::ALL_CLUSTERS`]: of all).
///
/// # Errors
/// A name that cannot stand in a certificate, or no randomness.
pub fn issue(
    ca: &Issuer<'_, KeyPair>,
    cluster: &str,
    user: &str,
    group: Option<&str>,
    now: Timestamp,
    validity: Duration,
) -> Result<ClientCertificate, CertificateError> {
    let failed = |reason: String| CertificateError::Issue { user: user.to_owned(), reason };
    let uri = format!("{CLUSTER_URN}{cluster}").try_into().map_err(|error: rcgen::Error| failed(error.to_string()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Clocks differ: valid from a little earlier.
    let start = std::time::SystemTime::from(now) - Duration::from_secs(300);
    params.not_before = start.into();
    params.not_after = (start + Duration::from_secs(300) + validity).into();
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    let certificate = params.signed_by(&key, ca).map_err(|error| failed(error.to_string()))?;
    Ok(ClientCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::now;

    fn ca() -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    fn der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn a_certificate_carries_user_group_and_cluster() {
        let made = issue(&ca(), "provider", "admin", Some("system:masters"), now(), Duration::from_secs(3600)).unwrap();
        let user = identity(&der(&made.certificate)).unwrap();
        assert_eq!(user.username, "admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        assert_eq!(user.cluster.as_deref(), Some("provider"));
    }

    #[test]
    fn without_a_cluster_it_is_no_credential() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "admin");
        let certificate = params.self_signed(&key).unwrap();
        assert!(matches!(identity(certificate.der()), Err(CertificateError::NoCluster)));
        assert!(matches!(identity(b"x"), Err(CertificateError::Malformed(_))));
    }
}
