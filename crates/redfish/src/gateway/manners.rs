//! What one BMC's firmware wants done differently on the wire. Set from the quirk table once the vendor is known.

/// Deviations from DSP0266 that the gateway itself has to mind. The default is a conforming BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// Sessions exist but do not work; Basic is used.
    pub basic_only: bool,
    /// Fewer requests at a time than the gateway's own limit.
    pub in_flight: Option<usize>,
    /// Refuses its own ETags (AMI): `If-Match: *` is sent in place of them.
    pub rejects_own_etags: bool,
    /// Refuses `If-Match: *` (HPE): it is never sent.
    pub rejects_any_etag: bool,
}
