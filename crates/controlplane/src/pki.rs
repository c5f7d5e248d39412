//! The control plane's own certificate authority. All keys are ECDSA P-256 and live as long as the folder.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Error;

/// A certificate with its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Signs for one control plane.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server that listens on loopback; it may also identify itself as a client with it.
    pub(crate) fn server(&self, name: &str) -> Result<Pair, Error> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
        ];
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec())?;
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(
            params,
            vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        )
    }

    /// A client certificate; Kubernetes reads the user from CN and the group from O.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        self.sign(params, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<Pair, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The paths of what components read from files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) etcd_key: PathBuf,
    pub(crate) service_accounts: PathBuf,
    pub(crate) service_accounts_key: PathBuf,
}

impl Files {
    /// Makes every certificate and key that the components need and writes them under `folder`.
    pub(crate) fn write(folder: &Path, authority: &Authority) -> Result<Self, Error> {
        let put = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content)
                .map_err(Error::file("cannot write", &path))
                .map(|()| path)
        };
        let (server, etcd, accounts) = (
            authority.server("kube-apiserver")?,
            authority.server("etcd")?,
            KeyPair::generate()?,
        );
        Ok(Self {
            authority: put("ca.crt", &authority.certificate())?,
            server: put("apiserver.crt", &server.certificate)?,
            server_key: put("apiserver.key", &server.key)?,
            etcd: put("etcd.crt", &etcd.certificate)?,
            etcd_key: put("etcd.key", &etcd.key)?,
            service_accounts: put("service-accounts.pub", &accounts.public_key_pem())?,
            service_accounts_key: put("service-accounts.key", &accounts.serialize_pem())?,
        })
    }
}
