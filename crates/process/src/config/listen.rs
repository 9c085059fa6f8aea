//! Addresses to listen at, and the names that a caller may use.

use std::net::{Ipv4Addr, SocketAddr};

use pulse_telemetry_http::host::{Authority, Host, HostError, ZONE};

use super::checker::Checker;

/// An address with a port to listen at, or `localhost:PORT`.
///
/// # Errors
/// It is none.
pub fn tcp_address(text: &str) -> Result<SocketAddr, HostError> {
    let Authority { host, port } = Authority::parse(text)?;
    let port = port.ok_or(HostError::Malformed)?;
    match host {
        // Not canonical: a socket that is bound to an IPv4-mapped address is an IPv6 one.
        Host::Address(_) => text.parse().map_err(|_| HostError::Malformed),
        host if host.is_loopback() => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Host::Name(_) => Err(HostError::Malformed),
    }
}

/// A name or an address that a caller may use, as one of the list of `key`.
pub fn allowed_host(check: &mut Checker<'_>, key: &str, written: &str) -> Option<Host> {
    let host = Host::parse_bare(written).map_err(|why| match why {
        HostError::Zone => ZONE,
        HostError::Malformed => "must be host names or IP addresses, without a port",
    });
    check.accept(key, written, host)
}
