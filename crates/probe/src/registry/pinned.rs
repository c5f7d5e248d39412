//! TLS to a server that is known by the SHA-256 of its certificate and by nothing else: neither name nor authority nor clock matter.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Wraps a connection in TLS where the URL says `https`.
#[derive(Debug)]
pub(super) struct PinnedConnector {
    pin: Option<[u8; 32]>,
}

impl PinnedConnector {
    pub(super) fn new(pin: Option<[u8; 32]>) -> Self {
        Self { pin }
    }
}

impl<In: Transport> Connector<In> for PinnedConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let pin = self
            .pin
            .ok_or(Error::Tls("no pin of the registry's certificate is known"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::Tls("no protocol version"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinVerifier { pin, provider }))
            .with_no_client_auth();
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Error::Tls("the registry's name is none"))?;
        let mut conn = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| Error::Io(std::io::Error::other(error)))?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsTransport {
            buffers,
            stream: StreamOwned { conn, sock },
        })))
    }
}

/// A connection in TLS.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsTransport")
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen: [u8; 32] = Sha256::digest(end_entity).into();
        if seen == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "the registry's certificate is not the one that was handed over at boot".into(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Mutex;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use crate::config::Settings;
    use crate::registry::Registry;

    use super::*;

    /// What came through TLS.
    type Heard = Arc<Mutex<Vec<u8>>>;

    /// A registry with a certificate that nobody signed, its address and the certificate's SHA-256.
    fn serve() -> (String, String, Heard) {
        let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let pin = Sha256::digest(&certificate);
        let pin = pin.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let heard = Heard::default();
        let kept = heard.clone();
        std::thread::spawn(move || {
            for sock in listener.incoming().flatten() {
                let conn = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(conn, sock);
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let mut heard = kept.lock().unwrap();
                    heard.extend_from_slice(&buffer[..read]);
                    // The body is JSON's null.
                    if heard.ends_with(b"null") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                        let _ = stream.flush();
                    }
                }
            }
        });
        (url, pin, heard)
    }

    fn registry(url: &str, pin: &str) -> Registry {
        let mut settings = Settings::default();
        settings.set("corten.url", url);
        settings.set("corten.token", "secret-token");
        settings.set("corten.pin", pin);
        Registry::new(settings.finish().unwrap())
    }

    #[test]
    fn the_registry_of_the_pin_gets_the_token_whatever_its_name() {
        let (url, pin, heard) = serve();
        registry(&url, &pin).tell("/hello", &()).unwrap();
        let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
        assert!(heard.contains("Bearer secret-token"), "{heard}");
    }

    #[test]
    fn another_certificate_hears_nothing() {
        let (url, pin, heard) = serve();
        let other = if pin.starts_with('0') { "1" } else { "0" };
        let pin = format!("{other}{}", &pin[1..]);
        let error = registry(&url, &pin).tell("/hello", &()).unwrap_err();
        let said = crate::registry::chain(&error);
        assert!(said.contains("not the one that was handed over"), "{said}");
        assert_eq!(*heard.lock().unwrap(), [0_u8; 0]);
    }
}
