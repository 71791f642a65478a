//! The server's certificate authority and certificates.
//!
//! Flows in: the data folder and the names the server is reached by. Flows out: a rustls configuration that also takes
//! client certificates of our own authority. The authority is kept in the data folder, so kubeconfigs outlive a
//! restart; the server's certificate is made anew each time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::StartError;
use super::data_dir::DataDir;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// The authority that signs the server's certificate and administrators' certificates.
pub struct Authority {
    /// Its certificate, PEM.
    pub pem: String,
    /// What signs.
    pub issuer: Issuer<'static, KeyPair>,
}

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> StartError {
    let what = what.to_owned();
    move |error| StartError::Certificate(format!("{what}: {error}"))
}

impl Authority {
    /// The authority of a data folder, or one for this run.
    pub fn open(data: Option<&DataDir>) -> Result<Self, StartError> {
        let stored = match data {
            Some(data) => data.read(CA_CERTIFICATE)?.zip(data.read(CA_KEY)?),
            None => None,
        };
        let (pem, key) = match stored {
            Some(stored) => stored,
            None => {
                let (pem, key) = Self::make()?;
                if let Some(data) = data {
                    data.write(CA_KEY, &key)?;
                    data.write(CA_CERTIFICATE, &pem)?;
                }
                (pem, key)
            }
        };
        let key = KeyPair::from_pem(&key).map_err(failed("reading the key of the certificate authority"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(failed("reading the certificate authority"))?;
        Ok(Self { pem, issuer })
    }

    fn make() -> Result<(String, String), StartError> {
        let key = KeyPair::generate().map_err(failed("making a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kube-bind control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed("making the certificate authority"))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A configuration for serving under these addresses and names.
    pub fn server_config(&self, names: &[String], address: IpAddr) -> Result<rustls::ServerConfig, StartError> {
        let key = KeyPair::generate().map_err(failed("making a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let mut addresses: Vec<IpAddr> =
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::new(10, 96, 0, 1).into()];
        let mut dns: Vec<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
        if !address.is_unspecified() {
            addresses.push(address);
        }
        for name in names {
            match name.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => dns.push(name.clone()),
            }
        }
        addresses.dedup();
        params.subject_alt_names = addresses.into_iter().map(SanType::IpAddress).collect();
        for name in dns {
            let name = name.try_into().map_err(failed("a name of the server"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed("making the server's certificate"))?;

        let tls = |error: &dyn std::fmt::Display| StartError::Certificate(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).map_err(|e| tls(&e))?;
        roots.add(ca).map_err(|e| tls(&e))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| tls(&e))?;
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).map_err(|e| tls(&e))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|e| tls(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
