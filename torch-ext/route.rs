//! Which interface leads to another machine.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

/// The address of the interface that packets to `host` leave by; nothing is sent.
pub fn route(host: &str, port: u16) -> Option<IpAddr> {
    let to: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    // IPv4 first, as the backends do.
    let to = to.iter().find(|address| address.is_ipv4()).or(to.first())?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_is_the_loopback_and_nothing_leads_nowhere() {
        assert_eq!(route("127.0.0.1", 1), "127.0.0.1".parse().ok());
        assert_eq!(route("no.such.host.invalid", 1), None);
    }
}
