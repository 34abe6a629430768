//! Listeners, bound before anything else starts: a taken port stops the start at once.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Exit, Failure};

const BACKLOG: i32 = 1024;
/// What chooses addresses, for messages.
const FLAG: &str = "--listen";

/// Binds all addresses that were asked for, else both loopbacks on `default_port`.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    default_port: u16,
) -> Result<Vec<TcpListener>, Failure> {
    if addresses.is_empty() {
        return bind_loopback(default_port);
    }
    bind_with(FLAG, addresses)
}

/// Binds all of these; `flag` is what chooses others.
pub(crate) fn bind_with(flag: &str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let bind =
        |address: &SocketAddr| bind_one(*address).map_err(|error| taken(flag, *address, &error));
    addresses.iter().map(bind).collect()
}

/// A machine without IPv6 has one loopback less; that is no failure.
fn bind_loopback(port: u16) -> Result<Vec<TcpListener>, Failure> {
    let first = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let second = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut listeners = vec![bind_one(first).map_err(|error| taken(FLAG, first, &error))?];
    match bind_one(second) {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Err(taken(FLAG, second, &error));
        }
        Err(_) => {}
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too; `[::1]` leaves 127.0.0.1 to its own listener.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn taken(flag: &str, address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message = format!(
                "cannot listen on {address}: the port is taken, choose another with {flag}"
            );
            Failure::new(Exit::Conflict, "address_in_use", message)
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!("cannot listen on {address}: {error}");
            Failure::new(Exit::Permission, "permission_denied", message)
        }
        _ => Failure::new(Exit::General, "io", format!("cannot listen on {address}: {error}")),
    }
}

/// One more listener on the address of the first, on `port` or, if that is taken, on any.
pub(crate) fn beside(listeners: &[TcpListener], port: u16) -> Result<TcpListener, Failure> {
    let address = addresses(listeners).first().map_or(Ipv4Addr::LOCALHOST.into(), SocketAddr::ip);
    let wanted = SocketAddr::new(address, port);
    let bound = match bind_one(wanted) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bind_one(SocketAddr::new(address, 0))
        }
        bound => bound,
    };
    bound.map_err(|error| taken(FLAG, wanted, &error))
}

/// The address of this machine on the way to a URL or `HOST:PORT`. Nothing is sent.
pub(crate) fn outward_ip(to: &str) -> Option<IpAddr> {
    let authority = to.split("://").last()?.split('/').next()?;
    let target = authority.to_socket_addrs().or_else(|_| (authority, 80).to_socket_addrs());
    let target = target.ok()?.next()?;
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The addresses that were bound; with port 0, the real ports.
pub(crate) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// A URL under which the first listener is reached from this machine.
pub(crate) fn url(addresses: &[SocketAddr]) -> String {
    let Some(address) = addresses.first() else { return String::new() };
    let mut address = *address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_clear_line_and_a_conflict() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()], 0).unwrap();
        let address = addresses(&first);
        let failure = bind(&address, 0).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        let start = format!("cannot listen on {}: the port is taken", address[0]);
        assert!(failure.message.starts_with(&start), "{failure}");
    }

    #[test]
    fn every_address_has_a_url_that_works_from_here() {
        assert_eq!(url(&["0.0.0.0:5".parse().unwrap()]), "http://127.0.0.1:5");
        assert_eq!(url(&["[::]:5".parse().unwrap()]), "http://[::1]:5");
        assert_eq!(url(&["127.0.0.1:5".parse().unwrap()]), "http://127.0.0.1:5");
    }
}
